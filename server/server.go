// Package server is the port of Roster: one address that answers gRPC, gRPC-Web, Connect, JSON and the
// page, over HTTP/1.1 and HTTP/2, with TLS or in cleartext.
//
//	srv, err := server.New(server.Config{Directory: dir, Log: log})
//	if err != nil {
//		return err
//	}
//	listener, err := net.Listen("tcp", "localhost:50051")
//	if err != nil {
//		return err
//	}
//	return srv.Serve(ctx, listener) // until ctx is done and the calls that run have ended
//
// The package wires rooms, each a package that can be read by itself: conn is what a connection
// passes, gate what a request passes before its handler, service what answers, rpc what they all
// agree on, h2 the HTTP/2 engine. It owns the drain and the statistics of the port. Its files are this
// one, mounts.go (which path leads to which handler), http.go (the HTTP server and its engine) and
// serve.go (serving, and ending without a failed call).
package server

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"example.com/roster/directory"
	"example.com/roster/server/auth"
	"example.com/roster/server/conn"
	"example.com/roster/server/drain"
	"example.com/roster/server/gate"
	"example.com/roster/server/h2"
	"example.com/roster/server/rpc"
	"example.com/roster/server/service"
)

// Config is what a port needs to know. Directory must be set; every other field has a default.
type Config struct {
	// Directory answers the look-ups.
	Directory *directory.Directory
	// Mounts are services besides Roster's own.
	Mounts []rpc.Mount
	// MaxBatch is how many ids one call may have; 0 means 10,000.
	MaxBatch int
	// MaxWatches is how many calls may follow the port's health at a time; 0 means 10,000.
	MaxWatches int
	// MaxConnections is how many connections may be open; 0 means 10,000, and a negative one is no
	// limit. Once it is reached, idle connections give way to new ones, and no address keeps all.
	MaxConnections int
	// MaxDeadline is how long a unary call may take, its body included, whatever deadline its client
	// sets; 0 means 60 s, and a negative one is no bound.
	MaxDeadline time.Duration
	// MaxConcurrentCalls is how many unary calls are answered at a time; those beyond are refused. 0
	// means 10,000. Streams have bounds of their own, in their policies.
	MaxConcurrentCalls int
	// RateLimit is how many calls a second one caller may make, known by token or certificate, else by
	// address; 0 is no limit. RateBurst is how many of them at once; 0 means those of a second.
	RateLimit float64
	RateBurst int
	// DrainTimeout is how long Serve lets running calls finish once its context is done; 0 means 30 s.
	DrainTimeout time.Duration
	// DrainDelay is how long Serve goes on as before once its context is done: time for clients that
	// follow the port's health to send their calls elsewhere.
	DrainDelay time.Duration
	// TLS, if set, makes Serve speak TLS alone: it holds the certificate and what clients must show.
	// HTTP/2 and HTTP/1.1 are agreed by ALPN.
	TLS *tls.Config
	// Tokens, if set, returns the tokens as of now: calls need one, or a client certificate. Without,
	// everybody may read, and from this machine alone write.
	Tokens func() *auth.Set
	// ClientCertificates accepts the names in verified client certificates as identities.
	ClientCertificates bool
	// OpenReads lets everybody read although there are Tokens.
	OpenReads bool
	// Local says that only this machine reaches the listener.
	Local bool
	// Origins are those, as gate.ParseOrigin returns them, whose pages may call besides the port's own.
	Origins []string
	// StandardHTTP2 serves HTTP/2 with net/http's own engine instead of package h2, which is several
	// times as fast.
	StandardHTTP2 bool
	// Log gets what goes wrong; nil drops it.
	Log *slog.Logger
	// Observers are told of every request, in this order.
	Observers []rpc.Observer

	// stallTimeout stands in for the constant of that name in tests.
	stallTimeout time.Duration
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
		c.MaxConcurrentCalls = 10_000
	}
	if c.MaxWatches == 0 {
		c.MaxWatches = 10_000
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
	config  Config
	handler http.Handler
	chain   *gate.Chain
	drain   *drain.State
	stats   Stats
	parting conn.Parting

	mounting sync.Mutex // held while routes are replaced
	own      []rpc.Mount
	routes   atomic.Pointer[routes]
}

// Stats counts what a port does. Read it at any time.
type Stats struct {
	// Connections counts those of every protocol.
	Connections conn.Stats
	// HTTP2 counts what happens on those that speak HTTP/2, and stays zero with Config.StandardHTTP2.
	HTTP2 h2.Stats
}

// New returns a port that does not listen yet. It fails if config cannot be served: above all if a
// method of Config.Mounts has no policy, which it names.
func New(config Config) (*Server, error) {
	if config.Directory == nil {
		return nil, errors.New("server: Config.Directory is not set")
	}
	config = config.withDefaults()
	s := &Server{config: config, drain: drain.New()}
	s.chain = gate.New(gate.Config{
		Origins: gate.OriginsConfig{
			Allowed:      config.Origins,
			OnlyLoopback: config.Local && config.TLS == nil && (config.Tokens == nil || config.OpenReads),
		},
		Access: gate.AccessConfig{
			Tokens:             config.Tokens,
			ClientCertificates: config.ClientCertificates,
			OpenReads:          config.OpenReads,
			Local:              config.Local,
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
		Drain:      s.drain,
		Table:      s.Table,
		Log:        config.Log,
	})
	if err := s.Mount(config.Mounts...); err != nil {
		return nil, err
	}
	s.handler = s.newHandler()
	return s, nil
}

// Handler returns all that the port answers, as one handler: every service, the page, and the gates
// before them. It is for tests, and for programs with an HTTP server of their own; Serve brings one.
func (s *Server) Handler() http.Handler { return s.handler }

// Drain tells how far the port is on its way out.
func (s *Server) Drain() *drain.State { return s.drain }

// Stats returns what the port counts.
func (s *Server) Stats() *Stats { return &s.stats }

// Gates are those that a request passes before its handler, from the outside in.
func (s *Server) Gates() []gate.Gate { return s.chain.Gates() }
