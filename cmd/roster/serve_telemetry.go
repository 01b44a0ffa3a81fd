package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"go.opentelemetry.io/otel"

	"example.com/roster/directory"
	"example.com/roster/server"
	"example.com/roster/server/admin"
	"example.com/roster/server/listen"
	"example.com/roster/server/telemetry"
	"example.com/roster/server/tlsfile"
)

// telemetryFlags say how the server is seen from outside. Traces have no flag:
// the standard OTEL_ variables turn them on.
type telemetryFlags struct {
	adminAddr, accessLog string
	slowCall             time.Duration
}

// flushTimeout is how long the last traces may take to export.
const flushTimeout = 5 * time.Second

// errorLines is how many requests that fail, or are slow, are logged in a second.
const errorLines = 100

func (f *telemetryFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.adminAddr, "admin-addr", "", "host:port for /metrics, /livez, /readyz and /debug/pprof; off if empty. Keep it on localhost or a network of your own")
	flags.StringVar(&f.accessLog, "access-log", "10", "requests to log: all, errors, off, or how many successes a second beside the errors, which are never more than 100 a second")
	flags.DurationVar(&f.slowCall, "slow-call", time.Second, "a call that takes as long is logged as errors are; 0 is never")
}

func (f *telemetryFlags) check(addr string) error {
	if _, _, err := f.accessLogConfig(); err != nil {
		return err
	}
	switch _, port, err := net.SplitHostPort(f.adminAddr); {
	case f.slowCall < 0:
		return usage("--slow-call %v: must not be negative", f.slowCall)
	case f.adminAddr == "":
	case err != nil:
		return usage("--admin-addr %s: want host:port, for example localhost:9090", f.adminAddr)
	case f.adminAddr == addr && port != "0":
		return usage("--admin-addr is --addr, %s: give it a port of its own", addr)
	}
	return nil
}

func (f *telemetryFlags) accessLogConfig() (config telemetry.AccessLogConfig, on bool, err error) {
	config = telemetry.AccessLogConfig{Errors: errorLines, Slow: f.slowCall}
	switch f.accessLog {
	case "off":
		return config, false, nil
	case "errors":
	case "all":
		config.Successes, config.Errors = -1, -1
	default:
		if config.Successes, err = strconv.Atoi(f.accessLog); err != nil || config.Successes < 0 {
			return config, false, usage("--access-log %q: want all, errors, off, or a number of calls a second", f.accessLog)
		}
	}
	return config, true, nil
}

// A watch is what shows the server from outside, from before its port opens
// until after it has closed.
type watch struct {
	log     *slog.Logger
	metrics *telemetry.Metrics // nil without an admin port
	traces  *telemetry.Traces  // nil if the environment asks for none
	ready   atomic.Pointer[func(context.Context) error]
	admin   *http.Server
	served  chan struct{} // closed when admin has ended
}

// start opens the admin port, so that a scrape sees the server come up. stop
// must be called in the end. shared lets another process have the address, too.
func (f *telemetryFlags) start(ctx context.Context, shared bool, log *slog.Logger) (*watch, error) {
	w := &watch{log: log}
	if err := w.startTraces(ctx); err != nil {
		return nil, err
	}
	if f.adminAddr == "" {
		return w, nil
	}
	listener, err := listen.Open(ctx, listen.Config{Addr: f.adminAddr, Flag: "--admin-addr", ReusePort: shared})
	if err != nil {
		return nil, err
	}
	address, ok := listener.Addr().(*net.TCPAddr)
	local := ok && address.IP.IsLoopback()
	if !local {
		log.Warn("--admin-addr is not on the loopback: whoever reaches it reads the metrics and takes profiles, so keep it to a network of your own",
			"address", listener.Addr().String())
	}
	w.metrics = telemetry.NewMetrics()
	w.admin = admin.New(admin.Config{Metrics: w.metrics.Handler(), Ready: w.isReady, Local: local, Version: buildVersion(), Log: log})
	w.served = make(chan struct{})
	log.Info("admin", "address", listener.Addr().String())
	go func() {
		defer close(w.served)
		if err := w.admin.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the admin port has failed, the server goes on without it", "error", err.Error())
		}
	}()
	return w, nil
}

// startTraces starts them if the environment asks for them. What it asks for
// and is not to be had is no reason not to serve.
func (w *watch) startTraces(ctx context.Context) error {
	wanted, err := telemetry.TracesWanted()
	if err != nil {
		w.log.Warn("no traces: " + err.Error())
	}
	if !wanted {
		return nil
	}
	// What the SDK has to say goes the way of everything else, and not to
	// standard error as it is.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { w.log.Warn("traces", "error", err.Error()) }))
	otel.SetLogger(logr.FromSlogHandler(w.log.Handler()))
	w.traces, err = telemetry.NewTraces(ctx, buildVersion(), w.log)
	return err
}

func (w *watch) isReady(ctx context.Context) error {
	ready := w.ready.Load()
	if ready == nil {
		return errors.New("starting: the store is being opened")
	}
	return (*ready)(ctx)
}

// store returns store as it is to be used.
func (w *watch) store(store directory.Store) directory.Store {
	if w.traces != nil {
		store = w.traces.Store(store)
	}
	if w.metrics != nil {
		store = w.metrics.Store(store)
	}
	return store
}

// directory returns config with the directory watched.
func (w *watch) directory(config directory.Config) directory.Config {
	if w.traces != nil {
		config.OnWait = w.traces.Waiting
	}
	return config
}

// observers adds to config what watches its port, and returns what a scrape reads of that.
func (f *telemetryFlags) observers(w *watch, config *server.Config) telemetry.Sources {
	sources := telemetry.Sources{Version: buildVersion(), TLS: config.TLS != nil, Traces: w.traces}
	if w.traces != nil { // first: the others find its span
		config.Observers = append(config.Observers, w.traces)
	}
	if logged, on, _ := f.accessLogConfig(); on {
		sources.AccessLog = telemetry.NewAccessLog(w.log, logged)
		config.Observers = append(config.Observers, sources.AccessLog)
	}
	if w.metrics != nil {
		config.Observers = append(config.Observers, w.metrics)
	}
	return sources
}

// observe shows the port to scrapes and probes. The server is ready from now on, but for what its
// directory and its drain say.
func (w *watch) observe(srv *server.Server, dir *directory.Directory, config server.Config, files *tlsfile.Files, sources telemetry.Sources) {
	sources.Directory = dir.Stats
	sources.Connections = srv.Stats().Connections.Connections
	if !config.StandardHTTP2 {
		sources.HTTP2 = &srv.Stats().HTTP2
	}
	sources.Draining = srv.Drain().Draining
	if files != nil {
		sources.CertificateExpiry = files.NotAfter
	}
	if w.metrics != nil {
		w.metrics.Read(sources)
	}
	ready := func(ctx context.Context) error {
		if srv.Drain().Draining() {
			return errors.New("draining: the server finishes what runs, and takes nothing new")
		}
		return dir.Health(ctx)
	}
	w.ready.Store(&ready)
}

// stop exports the traces that wait and closes the admin port, after the
// server's own.
func (w *watch) stop() {
	if w.traces != nil {
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		if err := w.traces.Close(ctx); err != nil {
			w.log.Warn("not all traces were exported before the end", "error", err.Error())
		}
	}
	if w.admin != nil {
		w.admin.Close()
		<-w.served
	}
}
