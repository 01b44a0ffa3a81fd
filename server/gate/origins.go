package gate

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
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
	// Headers are the names of request headers that pages of allowed origins may send besides those of
	// Connect, gRPC-Web, tokens and tracing.
	Headers []string
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
	anyPort map[string]bool
	// hosts has the hosts of the allowed origins, as a browser may write them in the Host of a request.
	hosts        map[string]bool
	cors         *cors.Cors      // nil if no origin is allowed
	headers      map[string]bool // those that pages may send, in lower case
	onlyLoopback bool
	log          *refusalLog
}

func newOrigins(config OriginsConfig, log *refusalLog) *origins {
	o := &origins{
		allowed:      make(map[string]bool),
		anyPort:      make(map[string]bool),
		hosts:        make(map[string]bool),
		headers:      make(map[string]bool),
		onlyLoopback: config.OnlyLoopback,
		log:          log,
	}
	for _, origin := range config.Allowed {
		if scheme, found := strings.CutSuffix(origin, anyLocalPort); found {
			o.anyPort[scheme] = true
			continue
		}
		o.allowed[origin] = true
		scheme, host, _ := strings.Cut(origin, "://")
		o.hosts[host] = true
		o.hosts[host+map[string]string{"http": ":80", "https": ":443"}[scheme]] = true
	}
	if len(config.Allowed) > 0 {
		allowed := slices.Concat(connectcors.AllowedHeaders(), pageHeaders, config.Headers)
		for _, name := range allowed {
			o.headers[strings.ToLower(name)] = true
		}
		o.cors = cors.New(cors.Options{
			AllowOriginFunc: o.allows, // rs/cors itself ignores case
			AllowedMethods:  connectcors.AllowedMethods(),
			AllowedHeaders:  allowed,
			ExposedHeaders:  append(connectcors.ExposedHeaders(), "Etag", "Retry-After"),
			MaxAge:          preflightSeconds,
		})
	}
	return o
}

// pageHeaders are what pages may send besides the headers of Connect and gRPC-Web: the token, a
// condition for the cache, and what libraries for tracing add to every call without being asked.
var pageHeaders = []string{
	"Authorization", "If-None-Match",
	"Traceparent", "Tracestate", "Baggage", // W3C Trace Context and Baggage
	"X-Request-Id", "X-Correlation-Id", "Request-Id",
	"B3", "X-B3-Traceid", "X-B3-Spanid", "X-B3-Parentspanid", "X-B3-Sampled", "X-B3-Flags", // Zipkin
	"Uber-Trace-Id", // Jaeger
	"Sentry-Trace",
	"X-Datadog-Trace-Id", "X-Datadog-Parent-Id", "X-Datadog-Origin", "X-Datadog-Sampling-Priority", "X-Datadog-Tags",
	"Newrelic", "Elastic-Apm-Traceparent", "X-Amzn-Trace-Id", "X-Cloud-Trace-Context",
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
		if !fromPage && !loopback.Host(r.Host) && !o.hosts[strings.ToLower(r.Host)] {
			o.refuse(w, r, fmt.Errorf(
				"this port answers browsers by a name of this machine only, and was called by the name %.200q: "+
					"if that is a proxy's, serve with --cors-origin and an origin of that name, such as http://%[1]s", r.Host))
			return
		}
		if foreign, found := o.foreign(sent); found {
			o.refuse(w, r, foreignOrigin(foreign))
			return
		}
		shared.ServeHTTP(w, r)
	})
}

// foreign returns the first origin that is neither this machine's nor allowed. It reports false if
// there is none.
func (o *origins) foreign(sent []string) (name string, found bool) {
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
				o.refuse(w, r, foreignOrigin(strings.Join(r.Header["Origin"], " ")))
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
			if isPreflight(r) {
				r = o.answerable(r)
			}
			shared.ServeHTTP(w, r)
		default:
			w.Header().Add("Vary", "Origin")
			if isPreflight(r) {
				o.refuse(w, r, foreignOrigin(strings.Join(sent, " ")))
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

// answerable returns the preflight of an allowed origin as rs/cors answers it: with a method that pages
// may call with, and the headers that they may send, of those that it asks for, in order. rs/cors has no
// answer to any other, not even that the origin is allowed, and the browser would say that it is not.
// From this answer the browser sees what is missing, and the log says it.
func (o *origins) answerable(r *http.Request) *http.Request {
	var why error
	asked := make(map[string]bool)
	for _, value := range r.Header["Access-Control-Request-Headers"] {
		for name := range strings.SplitSeq(value, ",") {
			name = strings.ToLower(strings.Trim(name, " \t"))
			switch {
			case o.headers[name]:
				asked[name] = true
			case name != "" && why == nil:
				why = fmt.Errorf("pages may not send the header %.100q: if they have to, serve with --cors-header and its name", name)
			}
		}
	}
	if len(asked) == 0 {
		asked = o.headers
	}
	method := r.Header.Get("Access-Control-Request-Method")
	if allowed := connectcors.AllowedMethods(); !slices.Contains(allowed, method) {
		why = fmt.Errorf("pages may not call with the HTTP method %.20q, but with %s", method, strings.Join(allowed, " and "))
		method = http.MethodPost
	}
	if why != nil {
		if c := rpc.From(r.Context()); c != nil {
			c.Refused = rpc.ReasonPreflight
		}
		o.log.note(r, connect.NewError(connect.CodePermissionDenied, why))
	}
	answerable := *r
	answerable.Header = http.Header{
		"Origin":                         r.Header["Origin"],
		"Access-Control-Request-Method":  {method},
		"Access-Control-Request-Headers": {strings.Join(slices.Sorted(maps.Keys(asked)), ",")},
	}
	return &answerable
}

// foreignOrigin is the error for a page of an origin that may not call.
func foreignOrigin(origin string) error {
	const longest = 200
	if len(origin) > longest {
		origin = origin[:longest] + "..."
	}
	return fmt.Errorf("pages of %q may not call this port: if they are yours, serve with --cors-origin and their origin", origin)
}

func (o *origins) refuse(w http.ResponseWriter, r *http.Request, err error) {
	why := connect.NewError(connect.CodePermissionDenied, err)
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
	if address, err := netip.ParseAddr(host); err == nil {
		switch written := address.String(); {
		case address.Zone() != "" || address.Is4In6():
			return "", errors.New(want)
		case written != u.Hostname() && address.Is6():
			return "", fmt.Errorf("browsers write this address as [%s]: write it like that here", written)
		}
	} else if !isHostName(host) {
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

// isHostName reports whether a host, in lower case, is a name in the form that browsers send. What ends
// with a number they take for an address of IPv4 (URL standard, ends in a number).
func isHostName(host string) bool {
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	last := labels[len(labels)-1]
	return !slices.Contains(labels, "") && strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-._") == "" &&
		strings.Trim(last, "0123456789") != "" && !strings.HasPrefix(last, "0x")
}

// ParseHeader parses the name of a header that pages may send.
func ParseHeader(text string) (string, error) {
	switch {
	case text == "*":
		return "", errors.New("name each header")
	case text == "" || strings.ContainsFunc(text, notInToken):
		return "", errors.New("want the name of a header, such as x-request-id")
	}
	return http.CanonicalHeaderKey(text), nil
}
