// Package server is the port of Roster: one address that answers gRPC, gRPC-Web, Connect and JSON,
// and shows a web page, over HTTP/1.1 and HTTP/2, with TLS or in cleartext.
//
//	srv, err := server.New(server.Config{Directory: dir, Log: log})
//	if err != nil {
//		return err
//	}
//	listener, err := net.Listen("tcp", "localhost:50051")
//	if err != nil {
//		return err
//	}
//	return srv.Serve(ctx, listener) // returns when ctx is done and the running calls have ended
//
// The package connects others, each of which can be read by itself: conn handles connections, gate
// checks requests before their handlers, service has the handlers, rpc has what all of them agree
// on, and h2 is the HTTP/2 engine. Package server itself owns the drain and the statistics of the
// port. Its files are this one, mounts.go (from a path to its handler), http.go (the HTTP server
// and its engine) and serve.go (serving, and shutting down without a failed call).
package server

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/directory"
	"example.com/roster/server/auth"
	"example.com/roster/server/conn"
	"example.com/roster/server/drain"
	"example.com/roster/server/gate"
	"example.com/roster/server/h2"
	"example.com/roster/server/rpc"
	"example.com/roster/server/service"
)

// Config configures a port. Directory or WithoutDirectory must be set; every other field has a default.
type Config struct {
	// Directory answers the look-ups.
	Directory *directory.Directory
	// WithoutDirectory is for a port that only has services of other servers: there is no Directory, and
	// MyService and roster.v1.DirectoryService are not served.
	WithoutDirectory bool
	// Elsewhere names services of Roster's own that are not served, because a service of Mounts, or of a
	// later Mount, answers instead.
	Elsewhere []string
	// Unknown, if set, returns the error for a call of a path that no service has; nil leaves it
	// UNIMPLEMENTED.
	Unknown func(path string) *connect.Error
	// Mounts are services to serve besides Roster's own.
	Mounts []rpc.Mount
	// MaxBatch is how many ids one call may have; 0 means 10,000.
	MaxBatch int
	// MaxWatches is how many calls of WatchUsers may be open at a time, and besides how many of health's
	// Watch; 0 means 2,000.
	MaxWatches int
	// MaxConnections is the maximum number of open connections; 0 means 10,000, a negative value no
	// maximum. Once it is reached, idle connections give way to new ones, and no address keeps all. One
	// of HTTP/2 is told so and loses no call, except with StandardHTTP2.
	MaxConnections int
	// MaxDeadline is how long a unary call may take, including the time in which its body arrives. A
	// client can set a shorter deadline and no longer one. 0 means 60 s; a negative value, no maximum.
	MaxDeadline time.Duration
	// MaxConcurrentCalls is how many unary calls may run at a time; further ones are refused. 0 means
	// 3,000. Streams are not counted; each streaming method has its own maximum, in its policy.
	MaxConcurrentCalls int
	// RateLimit is how many calls per second one caller may make, and RateBurst how many at once. A
	// caller is a token or client certificate, or without these an address. A RateLimit of 0 means no
	// limit; a RateBurst of 0, the calls of one second.
	RateLimit float64
	RateBurst int
	// DrainTimeout is how long Serve lets running calls finish once its context is done; 0 means 30 s.
	DrainTimeout time.Duration
	// DrainDelay is how long Serve, once its context is done, goes on accepting calls while health
	// says NOT_SERVING, so that clients and balancers which watch health send their calls
	// elsewhere.
	DrainDelay time.Duration
	// TLS, if set, makes Serve speak TLS and refuse cleartext calls. It has the certificate, and says
	// whether clients need one. ALPN selects HTTP/2 or HTTP/1.1.
	TLS *tls.Config
	// Tokens, if set, returns the current tokens, and calls need one, or a client certificate. If
	// it is nil, every caller may read, and callers on this machine may write.
	Tokens func() *auth.Set
	// ClientCertificates accepts the names in verified client certificates as identities.
	ClientCertificates bool
	// OpenReads lets every caller read without a token, even if Tokens is set.
	OpenReads bool
	// Local says that the listener can be reached from this machine alone.
	Local bool
	// TrustedProxies are the networks of the proxies in front of the port. A request from there counts
	// for the client that the header Forwarded or X-Forwarded-For names.
	TrustedProxies []netip.Prefix
	// ProxyProtocol makes Serve expect the header of the PROXY protocol, version 1 or 2, at the start of
	// each connection, and refuse connections without it. If TrustedProxies is set, only those may send
	// it.
	ProxyProtocol bool
	// Origins are the origins, in the form that gate.ParseOrigin returns, whose web pages may call
	// the port. Its own page always may.
	Origins []string
	// PageHeaders are the names of headers that the pages of Origins may send, besides those of Connect,
	// gRPC-Web, tokens and tracing.
	PageHeaders []string
	// StandardHTTP2 serves HTTP/2 with net/http's own engine instead of package h2, which is several
	// times as fast as net/http's.
	StandardHTTP2 bool
	// Log gets warnings and errors; nil discards them.
	Log *slog.Logger
	// Observers see every request, in this order.
	Observers []rpc.Observer

	// stallTimeout replaces the constant of that name in tests.
	stallTimeout time.Duration
	// imports replaces the limits of ImportUsers in tests.
	imports service.ImportLimits
}

func (c Config) withDefaults() Config {
	if c.MaxBatch == 0 {
		c.MaxBatch = 10_000
	}
	if c.MaxDeadline == 0 {
		c.MaxDeadline = time.Minute
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 10_000
	}
	if c.MaxConcurrentCalls == 0 {
		c.MaxConcurrentCalls = 3_000
	}
	if c.MaxWatches == 0 {
		c.MaxWatches = 2_000
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 30 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.stallTimeout == 0 {
		c.stallTimeout = stallTimeout
	}
	return c
}

// A Server is one port.
type Server struct {
	config     Config
	handler    http.Handler
	chain      *gate.Chain
	drain      *drain.State
	stats      Stats
	http1Drain conn.HTTP1Drain

	mounting sync.Mutex  // held while routes are replaced
	own      []rpc.Mount // Roster's own services
	routes   atomic.Pointer[routes]
}

// Stats counts what happens on a port. It may be read at any time.
type Stats struct {
	// Connections counts all connections, whatever they speak.
	Connections conn.Stats
	// HTTP2 counts what happens on HTTP/2 connections. With Config.StandardHTTP2 it stays zero.
	HTTP2 h2.Stats
}

// New returns a port that does not listen yet. It fails if config is wrong; in particular if a
// method of Config.Mounts has no policy, and then the error names the method.
func New(config Config) (*Server, error) {
	switch {
	case config.Directory == nil && !config.WithoutDirectory:
		return nil, errors.New("server: Config.Directory is not set, and neither is Config.WithoutDirectory")
	case config.Directory != nil && config.WithoutDirectory:
		return nil, errors.New("server: Config.Directory and Config.WithoutDirectory are both set")
	}
	config = config.withDefaults()
	s := &Server{config: config, drain: drain.New()}
	s.chain = gate.New(gate.Config{
		TrustedProxies: config.TrustedProxies,
		Origins: gate.OriginsConfig{
			Headers:      config.PageHeaders,
			Allowed:      config.Origins,
			OnlyLoopback: config.Local && config.TLS == nil && (config.Tokens == nil || config.OpenReads),
		},
		Access: gate.AccessConfig{
			Tokens:             config.Tokens,
			ClientCertificates: config.ClientCertificates,
			OpenReads:          config.OpenReads,
			// Who sends the PROXY protocol is a proxy, and passes on the calls of others.
			Local: config.Local && !config.ProxyProtocol,
		},
		Rate:               gate.RateConfig{PerSecond: config.RateLimit, Burst: config.RateBurst},
		MaxConcurrentCalls: config.MaxConcurrentCalls,
		MaxDeadline:        config.MaxDeadline,
		StallTimeout:       config.stallTimeout,
		Drain:              s.drain,
		Log:                config.Log,
	})
	s.own = service.Mounts(service.Config{
		Directory:  config.Directory,
		MaxBatch:   config.MaxBatch,
		MaxWatches: config.MaxWatches,
		Imports:    config.imports,
		Drain:      s.drain,
		Table:      s.Table,
		Log:        config.Log,
	})
	s.own = slices.DeleteFunc(s.own, func(m rpc.Mount) bool {
		return slices.Contains(config.Elsewhere, string(m.Service.FullName()))
	})
	if err := s.Mount(config.Mounts...); err != nil {
		return nil, err
	}
	s.handler = s.newHandler()
	return s, nil
}

// Handler returns the handler of the whole port: the services and the page, behind the gates. It is
// for tests, and for programs with an HTTP server of their own; Serve has one.
func (s *Server) Handler() http.Handler { return s.handler }

// Drain returns the state of the port's shutdown.
func (s *Server) Drain() *drain.State { return s.drain }

// Stats returns the statistics of the port.
func (s *Server) Stats() *Stats { return &s.stats }
