// Package server is the port of Roster: one address that answers gRPC,
// gRPC-Web, Connect, JSON and the page, over HTTP/1.1 and HTTP/2, with TLS or
// without.
//
// It holds what is true of every request whatever it calls: limits, timeouts,
// the drain. What a call answers is package api's.
//
//	listener, err := net.Listen("tcp", "localhost:50051")
//	if err != nil {
//		return err
//	}
//	config := server.Config{Directory: dir, Log: log}
//	return server.Serve(ctx, listener, config, server.NewHandler(config))
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/semaphore"

	"example.com/roster/directory"
	"example.com/roster/server/api"
	"example.com/roster/server/auth"
	"example.com/roster/server/call"
	"example.com/roster/server/drain"
	"example.com/roster/server/h2"
	"example.com/roster/server/listen"
	"example.com/roster/web"
)

// The limits of the port that have no flag.
const (
	// maxHeaderBytes bounds the header of one request, names and values
	// together; grpcio itself refuses more than about half of it.
	maxHeaderBytes = 16 << 10
	// headerTimeout is how long a request's header may take to arrive.
	headerTimeout = 10 * time.Second
	// idleTimeout closes a connection without requests. It is long, since a
	// client that sends just as its connection is closed may see that call fail.
	idleTimeout = 15 * time.Minute
	// stallTimeout is how long a message under way may stand still, in either
	// direction, before the stream or connection is given up. It is no bound on
	// how long a call or a stream may take.
	stallTimeout = 30 * time.Second
	// pingInterval is how long a connection with calls may be silent before it
	// is asked whether it is still there, pingTimeout how long it may think.
	pingInterval = time.Minute
	pingTimeout  = 15 * time.Second
	// maxStreams is how many calls one HTTP/2 connection may have open.
	maxStreams = 250
)

// Config is what a port needs to know.
type Config struct {
	// Directory answers the look-ups.
	Directory *directory.Directory
	// MaxBatch is how many ids one call may have; 0 means 10,000.
	MaxBatch int
	// MaxWatches is how many calls may follow the port's health at a time; 0
	// means 10,000.
	MaxWatches int
	// MaxDeadline is how long a call of one message and one reply may take, its
	// body included, whatever deadline its client sets; 0 means 60 s, and less is
	// no bound.
	MaxDeadline time.Duration
	// MaxConcurrentCalls is how many calls are answered at a time; those beyond
	// are refused. 0 means 10,000.
	MaxConcurrentCalls int
	// RateLimit is how many calls a second one caller may make, known by token or
	// certificate, else by address; 0 is no limit. RateBurst is how many of them
	// at once; 0 means those of a second.
	RateLimit float64
	RateBurst int
	// DrainTimeout is how long Serve lets running calls finish once its
	// context is done; 0 means 30 s.
	DrainTimeout time.Duration
	// DrainDelay is how long Serve goes on as before once its context is done:
	// time for those who watch the port's health to send their calls elsewhere.
	DrainDelay time.Duration
	// Drain tells handlers that the port is on its way out; Serve moves it on.
	// nil is for a port whose handlers do not care.
	Drain *drain.State
	// TLS, if set, has Serve speak TLS alone: it holds the certificate and what
	// clients must show. HTTP/2 and HTTP/1.1 are agreed by ALPN.
	TLS *tls.Config
	// Tokens, if set, returns the tokens as of now: calls need one, or a client
	// certificate. Without, everybody may read, and from this machine alone
	// write.
	Tokens func() *auth.Set
	// ClientCertificates has the names in verified client certificates count.
	ClientCertificates bool
	// OpenReads lets everybody read although there are Tokens.
	OpenReads bool
	// Local says that only this machine reaches the listener.
	Local bool
	// Origins are those, as ParseOrigin returns them, whose pages may call
	// besides the port's own.
	Origins []string
	// StandardHTTP2 serves HTTP/2 with net/http's own engine instead of package
	// h2, which is several times as fast.
	StandardHTTP2 bool
	// Log gets what goes wrong; nil drops it.
	Log *slog.Logger
	// Observers are told of every request, in this order.
	Observers []call.Observer
	// Stats, if set, counts the connections.
	Stats *Stats

	// stall stands in for stallTimeout in tests.
	stall time.Duration
	// partings is there for tests to look at.
	partings *parting
}

func (c Config) withDefaults() Config {
	if c.MaxBatch == 0 {
		c.MaxBatch = 10_000
	}
	if c.MaxDeadline == 0 {
		c.MaxDeadline = time.Minute
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
	if c.Stats == nil {
		c.Stats = new(Stats)
	}
	if c.stall == 0 {
		c.stall = stallTimeout
	}
	if c.partings == nil {
		c.partings = new(parting)
	}
	return c
}

// NewHandler returns all that the port answers, as one handler: the services
// of Roster, health and reflection, the page, and, behind the same limits,
// whatever more has.
func NewHandler(config Config, more ...api.Route) http.Handler {
	config = config.withDefaults()
	refuser := newRefuser()
	stored := api.Routes(api.Config{
		Directory: config.Directory,
		MaxBatch:  config.MaxBatch,
		Log:       config.Log,
	})
	routes := slices.Concat(stored, more, standardServices(config, refuser, stored, more))
	refused := newRefusalLog(config.Log)
	shedder, rates := newShedder(config, refuser), newRates(config, refuser)
	access, origins := newAccess(config, refuser, rates, refused), newOrigins(config, refuser, refused)
	mux := http.NewServeMux()
	for _, route := range routes {
		// From the inside out: who refuses a request stands before, and so
		// outside, whoever spends more on it.
		handler := endStreams(route, config.Drain, guard(route, config.stall, refuser))
		handler = capped(route, config.MaxDeadline, handler)
		handler = shedder.shed(route, handler)
		handler = rates.known(handler)
		handler = access.protect(route, handler)
		handler = origins.protect(handler) // before access: a preflight has no token
		handler = named(route.Path, handler)
		mux.Handle(route.Path, handler)
	}
	mux.Handle("/", origins.share(noSuchMethod(routes, onlyTLS(web.Handler()), refuser)))

	handler := drainInTime(mux, config.stall)
	handler = recorded(handler, config.Observers)
	tellProcedures(config.Observers, routes)
	return handler
}

// recorded makes the record of each request, and shows it to the observers.
func recorded(next http.Handler, observers []call.Observer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, r := call.Of(r)
		defer c.End()
		if len(observers) > 0 {
			w = c.Observe(observers, w, r)
			defer c.Observed(observers, r)
		}
		next.ServeHTTP(w, r)
	})
}

func tellProcedures(observers []call.Observer, routes []api.Route) {
	procedures := make([]call.Procedure, len(routes))
	for i, route := range routes {
		procedures[i] = call.Procedure{Path: route.Path, Streams: route.ClientStreams || route.ServerStreams}
	}
	for _, o := range observers {
		o.Serves(procedures)
	}
}

// named notes which procedure is called, and in which protocol.
func named(procedure string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := call.From(r.Context()); c != nil {
			c.Recognize(procedure, r)
		}
		next.ServeHTTP(w, r)
	})
}

// Serve answers on listener with handler until ctx is done, then drains: it
// goes on for Config.DrainDelay, accepts no more connections, tells clients to
// make new ones, lets running calls finish for up to Config.DrainTimeout, and
// cuts the rest. It returns nil if every call finished, and closes listener,
// with listen.Retire: another process may have the address by then.
func Serve(ctx context.Context, listener net.Listener, config Config, handler http.Handler) error {
	config = config.withDefaults()
	errorLog := newErrorLog(config.Log)
	httpServer, err := newHTTPServer(config, config.partings.handler(handler), errorLog)
	if err != nil {
		return err
	}
	conns, closePlain, err := sorted(config, stallListener{listener, config.stall, config.Stats, config.partings}, errorLog)
	if err != nil {
		return err
	}
	defer closePlain()
	served := make(chan error, 1)
	go func() {
		if config.TLS != nil {
			served <- httpServer.ServeTLS(conns, "", "") // the certificate is in the configuration
			return
		}
		if !config.StandardHTTP2 {
			conns = h2.NewListener(conns) // outermost, or it finds no connections of its own in net/http
		}
		served <- httpServer.Serve(conns)
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	config.Log.Info("draining", "delay", config.DrainDelay, "timeout", config.DrainTimeout)
	if config.DrainDelay > 0 {
		config.Drain.Begin()
		select {
		case err := <-served:
			return fmt.Errorf("serve %s: %w", listener.Addr(), err)
		case <-time.After(config.DrainDelay):
		}
	}

	draining, cancel := context.WithTimeout(context.Background(), config.DrainTimeout)
	defer cancel()
	if err := listen.Retire(draining, listener); err != nil {
		config.Log.Warn("the port was not given up cleanly", "error", err)
	}
	<-served // what was accepted is known to httpServer now
	config.partings.wait(draining)
	// Not sooner: a client that follows this server's health, and knows no other,
	// fails its calls once it hears. It is to leave the connection first, for one
	// to whoever has the address now.
	config.Drain.Begin()
	// Shutdown has the HTTP/2 engine say goodbye (RFC 9113 §6.8), so that who
	// opens a stream anew does it elsewhere.
	httpServer.RegisterOnShutdown(config.Drain.Close)
	err = httpServer.Shutdown(draining)
	if errors.Is(err, context.DeadlineExceeded) {
		httpServer.Close()
		return fmt.Errorf("calls still running after the drain timeout of %v were cut", config.DrainTimeout)
	}
	return err
}

func newHTTPServer(config Config, handler http.Handler, errorLog *errorLog) (*http.Server, error) {
	budget := semaphore.NewWeighted(portBudget)
	httpServer := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return withBudget(withConn(ctx, conn), budget)
		},
		ErrorLog: errorLog.logger(),
		// No ReadTimeout and no WriteTimeout: they would cut streams.
		Protocols: new(http.Protocols),
		TLSConfig: config.TLS.Clone(),
	}
	httpServer.Protocols.SetHTTP1(true)
	httpServer.Protocols.SetHTTP2(config.TLS != nil)
	httpServer.Protocols.SetUnencryptedHTTP2(config.TLS == nil)
	if config.StandardHTTP2 {
		httpServer.HTTP2 = &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			// A connection that says nothing is asked whether it is still there.
			SendPingTimeout: pingInterval,
			PingTimeout:     pingTimeout,
		}
		httpServer.Handler = notingHTTP2(handler)
		return httpServer, nil
	}
	err := h2.Configure(httpServer, h2.Config{
		MaxConcurrentStreams: maxStreams,
		StallTimeout:         config.stall,
		PingInterval:         pingInterval,
		PingTimeout:          pingTimeout,
		Stats:                &config.Stats.HTTP2,
		RequestContext:       call.NewContext,
		KnownHeaders:         knownHeaders,
		HeaderTooLarge:       refuseLongHeader,
	})
	noteHTTP2(httpServer)
	return httpServer, err
}
