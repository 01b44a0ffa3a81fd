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

// routes is what the port answers at one moment: a table, and the handler of each of its methods
// behind the gates.
type routes struct {
	table   *rpc.Table
	methods map[string]route // by path
	unknown *connect.Error   // the answer to a call of any other path
}

type route struct {
	method  *rpc.Method
	handler http.Handler
}

// Mount replaces the services that the port has besides Roster's own with these. It can be called
// while the port serves: a call that runs goes on, and the next one finds the new services. It fails,
// and changes nothing, if one of them does not fit: see rpc.NewTable.
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

// Table is everything that the port answers at the moment.
func (s *Server) Table() *rpc.Table { return s.routes.Load().table }

// newHandler returns the handler of the whole port.
func (s *Server) newHandler() http.Handler {
	page := s.chain.WrapPage(http.HandlerFunc(s.servePage))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if route, ok := s.routes.Load().methods[r.URL.Path]; ok {
			rpc.From(r.Context()).Recognize(route.method, r)
			route.handler.ServeHTTP(w, r)
			return
		}
		page.ServeHTTP(w, r)
	})
	return recorded(conn.BoundLeftovers(handler, s.config.stallTimeout), s.config.Observers)
}

// recorded makes the record of each request, and shows it to the observers.
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

// page is the page and its files. It has no state.
var page = strictTransport(web.Handler())

// servePage answers a call of a procedure that does not exist in the protocol of its caller, and
// everything else with the page.
func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		if _, ok := rpc.RequestMediaType(r); ok {
			rpc.Refuse(notFound{w}, r, rpc.ReasonUnimplemented, s.routes.Load().unknown)
			return
		}
	}
	page.ServeHTTP(w, r)
}

// notFound answers 404 where a unary call of Connect, the one whose errors are HTTP statuses, would
// have 501: the path is what does not exist, and clients and conformance tests of Connect look for
// that. The body says unimplemented.
type notFound struct{ http.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w notFound) WriteHeader(status int) {
	if status == http.StatusNotImplemented {
		status = http.StatusNotFound
	}
	w.ResponseWriter.WriteHeader(status)
}

// strictTransport tells browsers that came by TLS to come by nothing else for a year (RFC 6797), so
// that nobody on the way can talk them into cleartext HTTP. That holds for every port of a host, so
// not for localhost, which is many things in turn.
func strictTransport(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && !loopback.Host(r.Host) {
			w.Header().Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}
