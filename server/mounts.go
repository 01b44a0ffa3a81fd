package server

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"example.com/roster/internal/loopback"
	"example.com/roster/server/conn"
	"example.com/roster/server/rpc"
	"example.com/roster/web"
)

// routes is what the port serves at one moment: a table of methods, and for each method its handler
// behind the gates.
type routes struct {
	table   *rpc.Table
	methods map[string]route // by path
	unknown *connect.Error   // the error for calls of any other path
}

type route struct {
	method  *rpc.Method
	handler http.Handler
}

// Mount replaces Config.Mounts, or what an earlier Mount set; Roster's own services stay. It may be
// called while the port serves: running calls go on, and calls that come later find the new
// services. It fails, and changes nothing, for the reasons for which rpc.NewTable does.
func (s *Server) Mount(mounts ...rpc.Mount) error {
	s.mounting.Lock()
	defer s.mounting.Unlock()
	table, err := rpc.NewTable(slices.Concat(s.own, mounts)...)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	next := &routes{table: table, methods: make(map[string]route)}
	var paths []string
	for _, method := range table.Methods() {
		next.methods[method.Path] = route{method, s.chain.Wrap(method)}
		paths = append(paths, method.Path)
	}
	next.unknown = connect.NewError(connect.CodeUnimplemented,
		errors.New("no such procedure: this server has "+strings.Join(paths, ", ")))
	for _, o := range s.config.Observers {
		o.Serves(table)
	}
	if before := s.routes.Swap(next); before != nil {
		before.table.Replace()
	}
	return nil
}

// Table returns all methods that the port serves at the moment.
func (s *Server) Table() *rpc.Table { return s.routes.Load().table }

// newHandler returns the handler of the whole port.
func (s *Server) newHandler() http.Handler {
	page := s.chain.WrapPage(http.HandlerFunc(s.servePage))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rpc.Canonicalize(r)
		// A path in another encoding, which has a RawPath, is no procedure: a proxy that has rules by
		// path would read it as another one.
		route, ok := s.routes.Load().methods[r.URL.Path]
		if !ok || r.URL.RawPath != "" {
			page.ServeHTTP(w, r)
			return
		}
		if r.Method == http.MethodHead && route.method.Gettable() {
			// A copy, since the HTTP server leaves out the body by its own request's method.
			r = r.WithContext(r.Context())
			r.Method = http.MethodGet
		}
		c := rpc.From(r.Context())
		c.Recognize(route.method, r)
		if c.Protocol == rpc.GRPCWeb {
			var end func()
			w, end = rpc.TextMode(w, r)
			defer end()
		}
		route.handler.ServeHTTP(w, r)
	})
	return recorded(conn.BoundLeftovers(handler, s.config.stallTimeout), s.config.Observers)
}

// recorded creates the record of each request, and calls the observers before and after next.
func recorded(next http.Handler, observers []rpc.Observer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, r := rpc.Of(r)
		defer c.End()
		if len(observers) > 0 {
			w = c.Observe(observers, w, r)
			defer c.Observed(observers, r)
		}
		next.ServeHTTP(w, r)
	})
}

// page serves the web page and its files. It has no state.
var page = strictTransport(web.Handler())

// servePage serves every path that is no method of the table: it refuses an RPC, in the protocol of
// its caller, because there is no such procedure; any other request is one for the page.
func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		if _, ok := rpc.RequestMediaType(r); ok {
			if s.config.Unknown != nil {
				if err := s.config.Unknown(r.URL.Path); err != nil {
					rpc.Refuse(w, r, rpc.Reason(err.Code().String()), err)
					return
				}
			}
			rpc.Refuse(notFound{w}, r, rpc.ReasonUnimplemented, s.routes.Load().unknown)
			return
		}
	}
	if s.config.WithoutDirectory {
		serveNoPage(w, r)
		return
	}
	page.ServeHTTP(w, r)
}

// noPage is what a person reads who opens a port that has no directory in a browser. Which services it has
// is not said: where calls need a token, reflection needs one too.
const noPage = `This port answers calls of gRPC, gRPC-Web and Connect, in protobuf and JSON, for other servers. It has no page.

With grpcurl, its services:  grpcurl -plaintext HOST:PORT list
With curl, a call:           curl -H 'content-type: application/json' -d '{}' http://HOST:PORT/SERVICE/METHOD
`

// serveNoPage is servePage of a port without a directory: the page and the protos that page has are for
// services that are not there.
func serveNoPage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	status, text := http.StatusNotFound, "not found: this port has no page, and no files\n"
	switch {
	case r.URL.Path != "/":
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		status, text = http.StatusOK, noPage
	default:
		w.Header().Set("Allow", "GET, HEAD")
		status, text = http.StatusMethodNotAllowed, "method not allowed: this port has calls, at /SERVICE/METHOD\n"
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(text))
	}
}

// notFound writes the status 404 in place of 501, which is what Connect's unary protocol has for
// the code unimplemented. It is the path that does not exist, and Connect's clients and conformance
// tests expect 404 for that. The body still has the code unimplemented.
type notFound struct{ http.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w notFound) WriteHeader(status int) {
	if status == http.StatusNotImplemented {
		status = http.StatusNotFound
	}
	w.ResponseWriter.WriteHeader(status)
}

// strictTransport tells a browser that connects by TLS to use nothing but TLS with this host for a
// year (RFC 6797), so that nobody on the network path can downgrade it to cleartext. Browsers apply
// that to every port of the host, so localhost, where many programs run in turn, gets no such
// header.
func strictTransport(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && !loopback.Host(r.Host) {
			w.Header().Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}
