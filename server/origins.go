package server

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	connectcors "connectrpc.com/cors"
	"github.com/rs/cors"

	"example.com/roster/server/call"
)

// preflightSeconds is how long a browser may remember that an origin is
// allowed; Chromium takes no more.
const preflightSeconds = 7200

// origins decides which pages of other origins may call. Callers that are no
// browsers send no Origin, and pass with one look at the header.
//
// A page that is not allowed is kept out by its browser, which asks first
// (CORS): every content type that the handlers speak has it ask, and guard
// refuses the others. Two things that a browser does not ask about are here.
// One that knows the answer "no" is told so in words. And where only this
// machine reaches the port and callers need not say who they are, a page from
// the web must not read users by DNS rebinding: giving its own name this
// machine's address, so that the port seems to be its own origin. So there a
// page must come from this machine, too.
type origins struct {
	allowed map[string]bool
	cors    *cors.Cors // nil if none are allowed
	local   bool       // only pages of this machine and those allowed may call
	refuser refuser
	log     *refusalLog
}

func newOrigins(config Config, refuser refuser, log *refusalLog) *origins {
	o := &origins{
		allowed: make(map[string]bool),
		local:   config.Local && config.TLS == nil && (config.Tokens == nil || config.OpenReads),
		refuser: refuser,
		log:     log,
	}
	for _, origin := range config.Origins {
		o.allowed[origin] = true
	}
	if len(o.allowed) > 0 {
		o.cors = cors.New(cors.Options{
			AllowOriginFunc: func(origin string) bool { return o.allowed[origin] }, // rs/cors itself ignores case
			AllowedMethods:  connectcors.AllowedMethods(),
			AllowedHeaders:  append(connectcors.AllowedHeaders(), "Authorization", "Traceparent", "Tracestate"),
			ExposedHeaders:  connectcors.ExposedHeaders(),
			MaxAge:          preflightSeconds,
		})
	}
	return o
}

// protect puts the rules for pages before an RPC. Where there are none, nothing.
func (o *origins) protect(next http.Handler) http.Handler {
	if !o.local {
		return o.share(next)
	}
	shared := o.share(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, fromPage := r.Header["Origin"]
		// A page's own origin gets GETs without an Origin; the page's name is
		// the Host then.
		if !fromPage && r.Method == http.MethodPost {
			next.ServeHTTP(w, r)
			return
		}
		if stranger, found := o.stranger(sent, r.Host); found {
			o.refuse(w, r, stranger)
			return
		}
		shared.ServeHTTP(w, r)
	})
}

// stranger is the origin, or else the host, that is neither this machine's nor
// allowed, if there is one.
func (o *origins) stranger(sent []string, host string) (name string, found bool) {
	if len(sent) == 0 {
		return host, !isThisMachine(host)
	}
	for _, origin := range sent {
		if o.allowed[origin] {
			continue
		}
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || !isThisMachine(u.Host) {
			return origin, true
		}
	}
	return "", false
}

// isThisMachine tells whether a host, with a port or without, is a name of the
// machine that asks for it: an address of the loopback, or one of the names
// that are never anything else (RFC 6761 §6.3).
func isThisMachine(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	address, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && address.IsLoopback()
}

// share answers the preflights of next and shows its replies to the origins
// that are allowed.
func (o *origins) share(next http.Handler) http.Handler {
	if o.cors == nil {
		return next
	}
	shared := o.cors.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, fromPage := r.Header["Origin"]
		switch {
		case !fromPage:
			if r.Method == http.MethodGet {
				w.Header().Add("Vary", "Origin") // a cache may have it, and a page ask next
			}
			next.ServeHTTP(w, r)
		case len(sent) == 1 && o.allowed[sent[0]]:
			shared.ServeHTTP(w, r)
		default:
			w.Header().Add("Vary", "Origin")
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				o.refuse(w, r, strings.Join(sent, " "))
				return
			}
			next.ServeHTTP(w, r) // the page of the port itself, unless a browser is amiss
		}
	})
}

func (o *origins) refuse(w http.ResponseWriter, r *http.Request, stranger string) {
	const longest = 200
	if len(stranger) > longest {
		stranger = stranger[:longest] + "..."
	}
	why := connect.NewError(connect.CodePermissionDenied, fmt.Errorf(
		"pages of %q may not call this port: if they are yours, serve with --cors-origin and their origin", stranger))
	if c := call.From(r.Context()); c != nil {
		c.Refused = "origin"
	}
	o.refuser.refuse(w, r, why)
	o.log.note(r, why)
}

// ParseOrigin reads an origin that is to be allowed: scheme://host[:port], as
// browsers send it.
func ParseOrigin(text string) (string, error) {
	const want = "want scheme://host or scheme://host:port, such as https://app.example.com"
	switch {
	case text == "*":
		return "", errors.New("every page on the web could call, and read all users: name each origin")
	case strings.EqualFold(text, "null"):
		return "", errors.New("any page can have the origin null, by a sandboxed frame: it cannot be allowed")
	case strings.Contains(text, "*"):
		return "", errors.New("there are no patterns: name each origin")
	case strings.ContainsFunc(text, func(r rune) bool { return r > '~' }):
		return "", errors.New("write the host in ASCII as browsers send it, beginning with xn--")
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return "", errors.New(want)
	}
	if after := text[len(u.Scheme)+len("://")+len(u.Host):]; after != "" {
		return "", fmt.Errorf("an origin ends with host and port: leave out %q", after)
	}
	host := strings.ToLower(u.Hostname())
	if _, err := netip.ParseAddr(host); err != nil && strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-._") != "" {
		return "", errors.New(want)
	}
	if _, port, found := strings.Cut(strings.TrimPrefix(u.Host, "["+u.Hostname()+"]"), ":"); found {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return "", errors.New(want)
		}
		if port == "80" && u.Scheme == "http" || port == "443" && u.Scheme == "https" {
			return "", fmt.Errorf("browsers leave out :%s of an %s origin: leave it out here", port, u.Scheme)
		}
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}
