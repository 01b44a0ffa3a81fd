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

// AccessConfig configures authentication and authorization.
type AccessConfig struct {
	// Tokens, if set, returns the current tokens: calls need one of them, or a client certificate. If
	// it is nil, every caller may read, and only callers on this machine may write.
	Tokens func() *auth.Set
	// ClientCertificates accepts the names in verified client certificates as identities.
	ClientCertificates bool
	// OpenReads lets every caller read although Tokens is set.
	OpenReads bool
	// Local is true if the listener is reachable only from this machine, or from a proxy on it. Callers
	// on this machine may then write without a token; see notThisMachine.
	Local bool
}

// access authenticates callers and checks their role, before any byte of the body is read.
type access struct {
	AccessConfig
	rate *rateLimit // limits the refusals of one address
	log  *refusalLog
}

func newAccess(config AccessConfig, rate *rateLimit, log *refusalLog) *access {
	config.OpenReads = config.OpenReads || config.Tokens == nil
	return &access{config, rate, log}
}

// wrap requires the role of the method's policy. It returns next itself if every caller may call.
func (a *access) wrap(method *rpc.Method, next http.Handler) http.Handler {
	need := a.need(method.Role)
	if a.Tokens == nil && !a.ClientCertificates && need == auth.None {
		return next
	}
	// The page asks for health first, and asks its user for a token if look-ups will need one. A reply
	// that is no refusal may say so, too (RFC 9110 §11.6.1).
	tellsOfTokens := method.Role == rpc.Anyone && !method.Streams() && !a.OpenReads
	openToThisMachine := a.Tokens == nil && a.Local && need == auth.Write
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		need := need
		if openToThisMachine && notThisMachine(r) == "" {
			need = auth.None
		}
		c := rpc.From(r.Context())
		name, role, err := a.identify(r, c.Start)
		c.Identity = name
		if err != nil || role < need {
			a.refuse(w, r, need, name, role, err)
			return
		}
		if tellsOfTokens && name == "" && c.Protocol != rpc.GRPC {
			w.Header().Set("Www-Authenticate", challengeAnybody)
		}
		next.ServeHTTP(w, r)
	})
}

// need is the role that callers must authenticate for, in order to call a method of this policy.
func (a *access) need(role rpc.Role) auth.Role {
	switch {
	case role == rpc.Anyone, role == rpc.Reader && a.OpenReads:
		return auth.None
	case role == rpc.Reader:
		return auth.Read
	}
	return auth.Write
}

// identify returns the caller's name and role. An invalid token is an error even if the call needs
// none: otherwise its sender would notice only at the first call that needs one.
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
	// A certificate that a trusted CA has signed is enough to read.
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

// challengeAnybody tells a caller without a token that one is needed (RFC 6750 §3).
const challengeAnybody = `Bearer realm="roster"`

// refuse answers with what is missing and what to do about it: UNAUTHENTICATED to an unauthenticated
// caller, PERMISSION_DENIED to an authenticated one whose role does not suffice.
func (a *access) refuse(w http.ResponseWriter, r *http.Request, need auth.Role, name string, role auth.Role, err error) {
	const create = "the operator of this server creates one with roster token create"
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
	case a.Tokens == nil && a.Local:
		why = connect.NewError(connect.CodePermissionDenied, fmt.Errorf(
			"writes are for callers on this machine alone, since the server has no tokens, and this call is not known to be of one: %s; serve with --tokens", notThisMachine(r)))
	case a.Tokens == nil:
		// Without tokens nothing but a local port permits writes.
		why = connect.NewError(connect.CodePermissionDenied, errors.New(
			"writes are disabled: the port is reachable from the network and has no tokens: serve with --tokens"))
	default:
		why = connect.NewError(connect.CodeUnauthenticated, fmt.Errorf(
			`this call needs a token of the role %v in the header "authorization: Bearer TOKEN": %s`, need, create))
		challenge = challengeAnybody
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

// refusalLog logs refused callers at a bounded rate, so that attempts to guess a token are visible and
// do not fill the disk with log lines.
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
