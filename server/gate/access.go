package gate

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/internal/lograte"
	"example.com/roster/server/auth"
	"example.com/roster/server/rpc"
	"example.com/roster/server/tlsfile"
)

// AccessConfig says who may call what.
type AccessConfig struct {
	// Tokens, if set, returns the tokens as of now: calls need one, or a client certificate. Without,
	// everybody may read, and callers on this machine alone may write.
	Tokens func() *auth.Set
	// ClientCertificates accepts the names in verified client certificates as identities.
	ClientCertificates bool
	// OpenReads lets everybody read although there are Tokens.
	OpenReads bool
	// Local says that only this machine reaches the listener.
	Local bool
}

// access decides who may make which call, before a byte of a body is read.
type access struct {
	AccessConfig
	rate *rateLimit // of callers whose token is missing or wrong
	log  *refusalLog
}

func newAccess(config AccessConfig, rate *rateLimit, log *refusalLog) *access {
	config.OpenReads = config.OpenReads || config.Tokens == nil
	return &access{config, rate, log}
}

// wrap asks callers for what the method's policy wants. Where everybody may call, it does nothing.
func (a *access) wrap(method *rpc.Method, next http.Handler) http.Handler {
	need := a.need(method.Role)
	if a.Tokens == nil && !a.ClientCertificates && need == auth.None {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := rpc.From(r.Context())
		name, role, err := a.identify(r, c.Start)
		c.Identity = name
		if err != nil || role < need {
			a.refuse(w, r, need, name, role, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// need is the role that a caller must have shown for a method with this policy.
func (a *access) need(role rpc.Role) auth.Role {
	switch {
	case a.Tokens == nil && a.Local:
		return auth.None
	case role == rpc.Anyone, role == rpc.Reader && a.OpenReads:
		return auth.None
	case role == rpc.Reader:
		return auth.Read
	}
	return auth.Write
}

// identify returns who calls, and what they may do. A token that was sent and
// is no good is an error, whatever could be done without: its sender means to
// be somebody, and would else find out only when that matters.
func (a *access) identify(r *http.Request, now time.Time) (name string, role auth.Role, err error) {
	if a.Tokens != nil {
		if sent := r.Header["Authorization"]; len(sent) > 0 {
			secret, err := bearer(sent)
			if err != nil {
				return "", auth.None, err
			}
			entry, err := a.Tokens().Token(secret, now)
			if err != nil {
				return "", auth.None, err
			}
			return entry.Name, entry.Role, nil
		}
	}
	if !a.ClientCertificates {
		return "", auth.None, nil
	}
	name = tlsfile.Identity(r.TLS)
	if name == "" {
		return "", auth.None, nil
	}
	if a.Tokens != nil {
		if entry := a.Tokens().Certificate(name, now); entry != nil {
			return entry.Name, entry.Role, nil
		}
	}
	// That somebody whom the port trusts has signed it is enough to read.
	return name, auth.Read, nil
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
	case a.Tokens == nil:
		// Without tokens there is no way to be allowed to write, but to be on
		// the machine itself.
		why = connect.NewError(connect.CodePermissionDenied, errors.New(
			"this port takes changes from nobody, since others than this machine reach it and it has no tokens: serve with --tokens"))
	default:
		why = connect.NewError(connect.CodeUnauthenticated, fmt.Errorf(
			`this call needs a token of the role %v in the header "authorization: Bearer TOKEN": %s`, need, create))
		challenge = `Bearer realm="roster"`
	}
	if why.Code() == connect.CodeUnauthenticated && !a.rate.admitUnauthenticated(w, r) {
		return
	}
	if media, _ := rpc.RequestMediaType(r); challenge != "" && (media.InStatus || media.Protocol == rpc.NotRPC) {
		w.Header().Set("Www-Authenticate", challenge)
	}
	rpc.Refuse(w, r, rpc.Reason(why.Code().String()), why)
	a.log.note(r, why)
}

// refusalLog logs which callers were refused, so that guessing shows, and not more often than somebody
// would read: guessing 256 random bits leads nowhere, filling a disk with the log of it might.
type refusalLog struct {
	log   *slog.Logger
	limit *lograte.Limit
}

const (
	refusalsPerSecond = 1
	refusalBurst      = 10
)

func newRefusalLog(log *slog.Logger) *refusalLog {
	return &refusalLog{log, lograte.New(refusalsPerSecond, refusalBurst)}
}

func (l *refusalLog) note(r *http.Request, why *connect.Error) {
	leftOut, ok := l.limit.Allow()
	if !ok {
		return
	}
	l.log.LogAttrs(r.Context(), slog.LevelWarn, "caller refused", append([]slog.Attr{
		slog.String("code", why.Code().String()), slog.String("why", why.Message()),
		slog.String("path", r.URL.Path), slog.String("address", r.RemoteAddr),
	}, lograte.LeftOut(leftOut)...)...)
}
