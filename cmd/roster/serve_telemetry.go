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

	"github.com/spf13/pflag"

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
	stats   *server.Stats
	ready   atomic.Pointer[func(context.Context) error]
	admin   *http.Server
	served  chan struct{} // closed when admin has ended
}

// start opens the admin port, so that a scrape sees the server come up. stop
// must be called in the end. shared lets another process have the address, too.
func (f *telemetryFlags) start(ctx context.Context, shared bool, log *slog.Logger) (*watch, error) {
	w := &watch{log: log, stats: new(server.Stats)}
	if f.adminAddr == "" {
		return w, nil
	}
	listener, err := listen.Open(ctx, listen.Config{Addr: f.adminAddr, Flag: "--admin-addr", ReusePort: shared})
	if err != nil {
		return nil, err
	}
	if address, ok := listener.Addr().(*net.TCPAddr); ok && !address.IP.IsLoopback() {
		log.Warn("--admin-addr is not on the loopback: whoever reaches it reads the metrics and takes profiles, so keep it to a network of your own",
			"address", listener.Addr().String())
	}
	w.metrics = telemetry.NewMetrics()
	w.admin = admin.New(admin.Config{Metrics: w.metrics.Handler(), Ready: w.isReady, Version: buildVersion(), Log: log})
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

func (w *watch) isReady(ctx context.Context) error {
	ready := w.ready.Load()
	if ready == nil {
		return errors.New("starting: the store is being opened")
	}
	return (*ready)(ctx)
}

// store returns store as it is to be used.
func (w *watch) store(store directory.Store) directory.Store {
	if w.metrics == nil {
		return store
	}
	return w.metrics.Store(store)
}

// observe has config's port watched. The server is ready from now on, but for
// what its directory and its drain say.
func (f *telemetryFlags) observe(w *watch, config *server.Config, files *tlsfile.Files) {
	sources := telemetry.Sources{
		Version:       buildVersion(),
		Directory:     config.Directory.Stats,
		Port:          w.stats,
		TLS:           config.TLS != nil,
		StandardHTTP2: config.StandardHTTP2,
		Draining:      config.Drain.Draining,
	}
	if files != nil {
		sources.CertificateExpiry = files.NotAfter
	}
	config.Stats = w.stats
	if logged, on, _ := f.accessLogConfig(); on {
		sources.AccessLog = telemetry.NewAccessLog(w.log, logged)
		config.Observers = append(config.Observers, sources.AccessLog)
	}
	if w.metrics != nil {
		config.Observers = append(config.Observers, w.metrics)
		w.metrics.Read(sources)
	}
	dir, state := config.Directory, config.Drain
	ready := func(ctx context.Context) error {
		if state.Draining() {
			return errors.New("draining: the server finishes what runs, and takes nothing new")
		}
		return dir.Health(ctx)
	}
	w.ready.Store(&ready)
}

// stop closes the admin port, after the server's own.
func (w *watch) stop() {
	if w.admin != nil {
		w.admin.Close()
		<-w.served
	}
}
