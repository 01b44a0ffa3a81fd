package gate

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	connectcors "connectrpc.com/cors"
	"github.com/rs/cors"

	"example.com/roster/internal/loopback"
	"example.com/roster/server/rpc"
)

// preflightSeconds is how long a browser may remember that an origin is allowed: the maximum that
// Chromium accepts.
const preflightSeconds = 7200

// OriginsConfig configures which pages may call.
type OriginsConfig struct {
	// Allowed are the origins, as ParseOrigin returns them, whose pages may call in addition to the
	// port's own.
	Allowed []string
	// OnlyLoopback refuses pages of all hosts but this machine. It is for a port that is reachable only
	// from this machine and does not authenticate its callers; see origins.
	OnlyLoopback bool
}

// origins decides which pages of other origins may call. Programs send no Origin and pass.
//
// It is the browser that keeps out a page that is not allowed: it sends a preflight first (CORS),
// because every content type of an RPC requires one, and the gate protocol refuses all others. This
// gate adds two things. It answers the preflight of such a page with an error that names the flag. And
// on a port that is reachable only from this machine and does not authenticate its callers, it refuses
// pages from elsewhere, so that no page on the web can read users by DNS rebinding: by giving its own
// host name the address of this machine, which makes the port appear to be its own origin.
type origins struct {
	allowed map[string]bool
	// anyPort has the schemes of the allowed patterns, such as http of http://localhost:*.
	anyPort      map[string]bool
	cors         *cors.Cors // nil if no origin is allowed
	onlyLoopback bool
	log          *refusalLog
}

func newOrigins(config OriginsConfig, log *refusalLog) *origins {
	o := &origins{
		allowed:      make(map[string]bool),
		anyPort:      make(map[string]bool),
		onlyLoopback: config.OnlyLoopback,
		log:          log,
	}
	for _, origin := range config.Allowed {
		if scheme, found := strings.CutSuffix(origin, anyLocalPort); found {
			o.anyPort[scheme] = true
			continue
		}
		o.allowed[origin] = true
	}
	if len(config.Allowed) > 0 {
		o.cors = cors.New(cors.Options{
			AllowOriginFunc: o.allows, // rs/cors itself ignores case
			AllowedMethods:  connectcors.AllowedMethods(),
			AllowedHeaders:  append(connectcors.AllowedHeaders(), "Authorization", "Traceparent", "Tracestate"),
			ExposedHeaders:  connectcors.ExposedHeaders(),
			MaxAge:          preflightSeconds,
		})
	}
	return o
}

// allows reports whether pages of an origin may call.
func (o *origins) allows(origin string) bool {
	if o.allowed[origin] {
		return true
	}
	scheme, host, _ := strings.Cut(origin, "://")
	if !o.anyPort[scheme] {
		return false
	}
	name, port, found := strings.Cut(host, ":")
	return name == "localhost" && (!found || isPort(port))
}

// wrap applies the rules for pages to an RPC.
func (o *origins) wrap(_ *rpc.Method, next http.Handler) http.Handler {
	if !o.onlyLoopback {
		return o.share(next)
	}
	shared := o.share(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, fromPage := r.Header["Origin"]
		// A GET to the page's own origin has no Origin; its host is the Host then.
		if !fromPage && r.Method == http.MethodPost {
			next.ServeHTTP(w, r)
			return
		}
		if foreign, found := o.foreign(sent, r.Host); found {
			o.refuse(w, r, foreign)
			return
		}
		shared.ServeHTTP(w, r)
	})
}

// foreign returns the first origin that is neither this machine's nor allowed, or the host if there
// are no origins and it is not this machine's. It reports false if there is none.
func (o *origins) foreign(sent []string, host string) (name string, found bool) {
	if len(sent) == 0 {
		return host, !loopback.Host(host)
	}
	for _, origin := range sent {
		if o.allows(origin) {
			continue
		}
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || !loopback.Host(u.Host) {
			return origin, true
		}
	}
	return "", false
}

// share answers preflights, and adds the CORS headers that let allowed origins read the replies of
// next.
func (o *origins) share(next http.Handler) http.Handler {
	if o.cors == nil {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isPreflight(r) {
				o.refuse(w, r, strings.Join(r.Header["Origin"], " "))
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	shared := o.cors.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, fromPage := r.Header["Origin"]
		switch {
		case !fromPage:
			if r.Method == http.MethodGet {
				w.Header().Add("Vary", "Origin") // a cache may keep the reply, and a page request it next
			}
			next.ServeHTTP(w, r)
		case len(sent) == 1 && o.allows(sent[0]):
			shared.ServeHTTP(w, r)
		default:
			w.Header().Add("Vary", "Origin")
			if isPreflight(r) {
				o.refuse(w, r, strings.Join(sent, " "))
				return
			}
			next.ServeHTTP(w, r) // the port's own page, or a page to which the browser will not show it
		}
	})
}

// isPreflight reports whether a request is a preflight (Fetch standard, CORS-preflight fetch). Browsers
// send one only for pages of other origins.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && len(r.Header["Origin"]) > 0 && r.Header.Get("Access-Control-Request-Method") != ""
}

func (o *origins) refuse(w http.ResponseWriter, r *http.Request, foreign string) {
	const longest = 200
	if len(foreign) > longest {
		foreign = foreign[:longest] + "..."
	}
	why := connect.NewError(connect.CodePermissionDenied, fmt.Errorf(
		"pages of %q may not call this port: if they are yours, serve with --cors-origin and their origin", foreign))
	rpc.Refuse(w, r, rpc.ReasonOrigin, why)
	o.log.note(r, why)
}

// anyLocalPort follows the scheme in the only pattern that ParseOrigin accepts: any port of localhost,
// where development servers serve a page while it is written.
const anyLocalPort = "://localhost:*"

// isPort reports whether a text is a port in the form that browsers send.
func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == text
}

// ParseOrigin parses an origin to be allowed: scheme://host[:port], in the form that browsers send, or
// the pattern http://localhost:* or https://localhost:*.
func ParseOrigin(text string) (string, error) {
	const want = "want scheme://host or scheme://host:port, such as https://app.example.com"
	switch {
	case text == "*":
		return "", errors.New("every page on the web could call, and read all users: name each origin")
	case strings.EqualFold(text, "null"):
		return "", errors.New("any page can have the origin null, by a sandboxed frame: it cannot be allowed")
	case text == "http"+anyLocalPort, text == "https"+anyLocalPort:
		return text, nil
	case strings.Contains(text, "*"):
		return "", errors.New("the only pattern is http://localhost:*, with http or https: name each other origin")
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
		if !isPort(port) {
			return "", errors.New(want)
		}
		if port == "80" && u.Scheme == "http" || port == "443" && u.Scheme == "https" {
			return "", fmt.Errorf("browsers leave out :%s of an %s origin: leave it out here", port, u.Scheme)
		}
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}
