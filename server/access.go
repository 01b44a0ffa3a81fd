package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/time/rate"

	"example.com/roster/server/api"
	"example.com/roster/server/auth"
	"example.com/roster/server/call"
	"example.com/roster/server/tlsfile"
)

// access decides who may make which call, before a byte of a body is read.
type access struct {
	tokens       func() *auth.Set // nil if there are none
	certificates bool
	openReads    bool
	local        bool
	refuser      refuser
	rates        *rates // of those who are not known
	log          *refusalLog
}

func newAccess(config Config, refuser refuser, rates *rates, log *refusalLog) *access {
	return &access{
		tokens:       config.Tokens,
		certificates: config.ClientCertificates,
		openReads:    config.OpenReads || config.Tokens == nil,
		local:        config.Local,
		refuser:      refuser,
		rates:        rates,
		log:          log,
	}
}

// protect puts what a route needs before it. Where everybody may, nothing.
func (a *access) protect(route api.Route, next http.Handler) http.Handler {
	need := auth.Read
	switch {
	case route.Needs == api.NeedsNothing || route.Needs == api.NeedsRead && a.openReads:
		need = auth.None
	case route.Needs == api.NeedsWrite:
		need = auth.Write
	}
	if a.tokens == nil && a.local {
		need = auth.None
	}
	if a.tokens == nil && !a.certificates && need == auth.None {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := call.From(r.Context())
		name, role, err := a.identify(r, c)
		if c != nil {
			c.Identity = name
		}
		if err != nil || role < need {
			a.refuse(w, r, need, name, role, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// identify returns who calls, and what they may do. A token that was sent and
// is no good is an error, whatever could be done without: its sender means to
// be somebody, and would else find out only when that matters.
func (a *access) identify(r *http.Request, c *call.Call) (name string, role auth.Role, err error) {
	if a.tokens != nil {
		if sent := r.Header["Authorization"]; len(sent) > 0 {
			secret, err := bearer(sent)
			if err != nil {
				return "", auth.None, err
			}
			entry, err := a.tokens().Token(secret, startOf(c))
			if err != nil {
				return "", auth.None, err
			}
			return entry.Name, entry.Role, nil
		}
	}
	if !a.certificates {
		return "", auth.None, nil
	}
	name = tlsfile.Identity(r.TLS)
	if name == "" {
		return "", auth.None, nil
	}
	if a.tokens != nil {
		if entry := a.tokens().Certificate(name, startOf(c)); entry != nil {
			return entry.Name, entry.Role, nil
		}
	}
	// That somebody whom the port trusts has signed it is enough to read.
	return name, auth.Read, nil
}

func startOf(c *call.Call) time.Time {
	if c == nil {
		return time.Now()
	}
	return c.Start
}

var errNotBearer = errors.New(`the authorization header is not of the form "Bearer TOKEN"`)

// bearer returns the token of an Authorization header (RFC 6750 §2.1).
func bearer(sent []string) (string, error) {
	const scheme = "Bearer "
	if len(sent) > 1 {
		return "", errors.New("there is more than one authorization header: send one")
	}
	if len(sent[0]) <= len(scheme) || !strings.EqualFold(sent[0][:len(scheme)], scheme) {
		return "", errNotBearer
	}
	return sent[0][len(scheme):], nil
}

// refuse says what is missing and what to do about it. A caller who is not
// known is UNAUTHENTICATED, one who is and may not is PERMISSION_DENIED.
func (a *access) refuse(w http.ResponseWriter, r *http.Request, need auth.Role, name string, role auth.Role, err error) {
	const create = "whoever runs this server makes one with roster token create"
	var why *connect.Error
	var challenge string // RFC 6750 §3
	switch {
	case err != nil:
		why = connect.NewError(connect.CodeUnauthenticated, err)
		challenge = `Bearer realm="roster", error="invalid_token"`
	case name != "":
		why = connect.NewError(connect.CodePermissionDenied, fmt.Errorf(
			"%q has the role %v, this call needs %v: %s --role %v", name, role, need, create, need))
		challenge = fmt.Sprintf(`Bearer realm="roster", error="insufficient_scope", scope="%v"`, need)
	case a.tokens == nil:
		// Without tokens there is no way to be allowed to write, but to be on
		// the machine itself.
		why = connect.NewError(connect.CodePermissionDenied, errors.New(
			"this port takes changes from nobody, since others than this machine reach it and it has no tokens: serve with --tokens"))
	default:
		why = connect.NewError(connect.CodeUnauthenticated, fmt.Errorf(
			`this call needs a token of the role %v in the header "authorization: Bearer TOKEN": %s`, need, create))
		challenge = `Bearer realm="roster"`
	}
	if why.Code() == connect.CodeUnauthenticated && !a.rates.admitStranger(w, r) {
		return
	}
	if challenge != "" && answersInStatus(r) {
		w.Header().Set("Www-Authenticate", challenge)
	}
	a.refuser.refuse(w, r, why)
	a.log.note(r, why)
}

// answersInStatus tells whether a refusal is told by the HTTP status: gRPC,
// gRPC-Web and Connect's streams have 200 and the error elsewhere.
func answersInStatus(r *http.Request) bool {
	contentType := r.Header.Get("Content-Type")
	return !strings.HasPrefix(contentType, "application/grpc") && !strings.HasPrefix(contentType, "application/connect+")
}

// refusalLog logs who was refused, so that guessing shows, and not more often
// than somebody would read: guessing 256 random bits leads nowhere, filling a
// disk with the log of it might.
type refusalLog struct {
	log    *slog.Logger
	bucket *rate.Limiter
	left   atomic.Int64 // out, since the last that was logged
}

const (
	refusalsPerSecond = 1
	refusalBurst      = 10
)

func newRefusalLog(log *slog.Logger) *refusalLog {
	return &refusalLog{log: log, bucket: rate.NewLimiter(refusalsPerSecond, refusalBurst)}
}

func (l *refusalLog) note(r *http.Request, why *connect.Error) {
	if !l.bucket.Allow() {
		l.left.Add(1)
		return
	}
	l.log.WarnContext(r.Context(), "caller refused", "code", why.Code().String(), "why", why.Message(),
		"path", r.URL.Path, "address", r.RemoteAddr, "more", l.left.Swap(0))
}
