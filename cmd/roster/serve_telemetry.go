package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"

	"example.com/roster/directory"
	"example.com/roster/internal/loopback"
	"example.com/roster/server"
	"example.com/roster/server/admin"
	"example.com/roster/server/auth"
	"example.com/roster/server/bridge"
	"example.com/roster/server/listen"
	"example.com/roster/server/rpc"
	"example.com/roster/server/telemetry"
	"example.com/roster/server/tlsfile"
)

// flushTimeout is how long the last traces may take to export.
const flushTimeout = 5 * time.Second

// A monitor is how the server is seen from outside: the admin port with the metrics, the traces
// and the access log. It is there before the port opens and until after it has closed. Traces
// have no flag: the standard OTEL_ variables turn them on.
type monitor struct {
	log       *slog.Logger
	queue     *telemetry.LogQueue
	metrics   *telemetry.Metrics   // nil without an admin port
	traces    *telemetry.Traces    // nil if the environment asks for none
	accessLog *telemetry.AccessLog // nil if it is off
	ready     atomic.Pointer[func(context.Context) error]
	admin     *http.Server
	served    chan struct{} // closed when admin has ended
}

// startMonitor opens the admin port, so that a scrape sees the server come up. stop must be called
// at the end.
func startMonitor(ctx context.Context, f serveFlags, queue *telemetry.LogQueue, log *slog.Logger) (*monitor, error) {
	m := &monitor{log: log, queue: queue}
	if config, on, _ := parseAccessLog(f.accessLog); on { // checked already
		config.Slow = f.slowCall
		m.accessLog = telemetry.NewAccessLog(log, config)
	}
	if err := m.startTraces(ctx); err != nil {
		return nil, err
	}
	if f.adminAddr == "" {
		return m, nil
	}
	mode, _ := parseSocketMode(f.socketMode) // checked already
	listener, err := listen.Open(ctx, listen.Config{Addr: f.adminAddr, Flag: "--admin-addr", ReusePort: f.reusePort, Mode: mode})
	if err != nil {
		return nil, err
	}
	local := loopback.Addr(listener.Addr())
	if !local {
		log.Warn("--admin-addr is not on the loopback: everyone who can reach it can read the metrics and take profiles, so keep it on a private network",
			"address", listener.Addr().String())
	}
	m.metrics = telemetry.NewMetrics()
	m.admin = admin.New(admin.Config{Metrics: m.metrics.Handler(), Ready: m.isReady, Local: local, Version: buildVersion(), Log: log})
	m.served = make(chan struct{})
	log.Info("admin", "address", listener.Addr().String())
	go func() {
		defer close(m.served)
		if err := m.admin.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the admin port failed; calls are still served", "error", err.Error())
		}
	}()
	return m, nil
}

// startTraces starts the traces if the environment asks for them. A setting that cannot be
// followed is logged, and no reason not to serve.
func (m *monitor) startTraces(ctx context.Context) error {
	wanted, err := telemetry.TracesWanted()
	if err != nil {
		m.log.Warn("no traces: " + err.Error())
	}
	if !wanted {
		return nil
	}
	// The SDK logs as everything else does, instead of writing to standard error by itself.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { m.log.Warn("traces", "error", err.Error()) }))
	otel.SetLogger(logr.FromSlogHandler(m.log.Handler()))
	m.traces, err = telemetry.NewTraces(ctx, buildVersion(), m.log)
	return err
}

func (m *monitor) isReady(ctx context.Context) error {
	ready := m.ready.Load()
	if ready == nil {
		return errors.New("starting: the port is being opened")
	}
	return (*ready)(ctx)
}

// store returns a store whose queries are seen.
func (m *monitor) store(store directory.Store) directory.Store {
	if m.traces != nil {
		store = m.traces.Store(store)
	}
	if m.metrics != nil {
		store = m.metrics.Store(store)
	}
	return store
}

// onWait is the directory.Config.OnWait with which waiting for the store is seen.
func (m *monitor) onWait() func(context.Context, int) (context.Context, func(error)) {
	if m.traces == nil {
		return nil
	}
	return m.traces.Waiting
}

// observers returns those with which calls are seen.
func (m *monitor) observers() (observers []rpc.Observer) {
	if m.traces != nil { // first: the others find its span
		observers = append(observers, m.traces)
	}
	if m.accessLog != nil {
		observers = append(observers, m.accessLog)
	}
	if m.metrics != nil {
		observers = append(observers, m.metrics)
	}
	return observers
}

// serving is called when srv, which was made of config, can serve: from now on the metrics have its counts,
// and it is ready unless it drains or its directory is not healthy. What other servers do, those of a bridge,
// counts only if there is no directory: a port that can answer for one of two is ready.
func (m *monitor) serving(srv *server.Server, config server.Config, store *servedStore, files *tlsfile.Files, tokens *auth.Live, other *bridge.Bridge) {
	if m.metrics != nil {
		sources := telemetry.Sources{
			Version:     buildVersion(),
			Connections: srv.Stats().Connections.Connections,
			Refused:     srv.Stats().Connections.Refused,
			TLS:         files != nil,
			Reloads:     make(map[string]func() (uint64, uint64)),
			Draining:    srv.Drain().Draining,
			Log:         m.queue,
			AccessLog:   m.accessLog,
			Traces:      m.traces,
		}
		if config.Directory != nil {
			sources.Directory, sources.Users, sources.StoreSize = config.Directory.Stats, store.counter(), store.size
		}
		if !config.StandardHTTP2 {
			sources.HTTP2 = &srv.Stats().HTTP2
		}
		if files != nil {
			sources.CertificateExpiry = files.NotAfter
			sources.Reloads["tls"] = files.Reloads
		}
		if tokens != nil {
			sources.Reloads["tokens"] = tokens.Reloads
		}
		if other != nil {
			sources.Upstreams = func() []telemetry.Upstream { return upstreams(other.Reports()) }
		}
		m.metrics.Read(sources)
	}
	ready := func(ctx context.Context) error {
		if srv.Drain().Draining() {
			return errors.New("draining: running calls finish, new ones are not accepted")
		}
		if config.Directory == nil {
			return other.Ready()
		}
		return config.Directory.Health(ctx)
	}
	m.ready.Store(&ready)
}

// upstreams returns what the metrics have of the servers of a bridge.
func upstreams(reports []bridge.Report) (all []telemetry.Upstream) {
	for _, r := range reports {
		services := make(map[string]int)
		for state, n := range r.Services {
			services[string(state)] = n
		}
		all = append(all, telemetry.Upstream{
			Name: r.Upstream,
			Up:   r.Up,
			Processes: map[string]int{
				"known": r.Known, "ready": r.Ready, "left_alone": r.LeftAlone, "unlearnt": r.Unlearnt},
			Services:  services,
			Ejections: r.Ejections,
			Attempts:  r.Attempts,
			Failed:    r.Failed,
			SchemaAge: r.SchemaAge,
		})
	}
	return all
}

// stop exports the remaining traces and closes the admin port, after the server's own.
func (m *monitor) stop() {
	if m.traces != nil {
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		if err := m.traces.Close(ctx); err != nil {
			m.log.Warn("not all traces were exported before the end", "error", err.Error())
		}
	}
	if m.admin != nil {
		m.admin.Close()
		<-m.served
	}
}
