package telemetry

import (
	"maps"
	"net/http"
	"strconv"
	"sync/atomic"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"example.com/roster/server/rpc"
)

// buckets are the upper bounds, in seconds, in which durations are counted. A
// look-up of two ids takes some 30 µs, and few callers wait for more than 10 s.
// There are no native histograms beside them: they cost as much again, and a
// Prometheus that takes them drops the buckets, which dashboards ask for.
var buckets = [...]float64{
	50e-6, 100e-6, 250e-6, 500e-6,
	1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3,
	1, 2.5, 5, 10,
}

// Metrics counts the calls of a port for Prometheus, in a registry of its own.
// It is a rpc.Observer.
type Metrics struct {
	registry *prometheus.Registry

	calls     *prometheus.CounterVec
	durations *prometheus.HistogramVec
	refused   *prometheus.CounterVec
	queries   *prometheus.HistogramVec
	failures  *prometheus.CounterVec
	pages     [6]prometheus.Counter // by the first digit of the status; 0 if there was none

	procedures atomic.Pointer[map[string]*procedure]
}

// A procedure has the metrics of one: what has happened once is kept, so that
// counting looks nothing up.
type procedure struct {
	path      string
	inFlight  atomic.Int64
	codes     [rpc.Protocols][rpc.Codecs][len(codeNames)]lazy[prometheus.Counter]
	durations [rpc.Protocols]lazy[prometheus.Observer]
}

// lazy is one metric of a family that is there from its first use on.
type lazy[M any] struct{ made atomic.Pointer[M] }

func (l *lazy[M]) get(make func() M) M {
	if m := l.made.Load(); m != nil {
		return *m
	}
	m := make() // the family has one however many come here at once
	l.made.Store(&m)
	return m
}

// codeNames are the codes of gRPC by number, as Connect writes them.
var codeNames = [...]string{
	"ok", "canceled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists",
	"permission_denied", "resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented",
	"internal", "unavailable", "data_loss", "unauthenticated",
}

// codeIndex is code's place among codeNames; one that gRPC does not have is
// unknown.
func codeIndex(code connect.Code) int {
	if int(code) >= len(codeNames) {
		return int(connect.CodeUnknown)
	}
	return int(code)
}

// NewMetrics returns the metrics of a port that has not had a request yet.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roster_calls_total",
			Help: "RPCs that have ended.",
		}, []string{"procedure", "protocol", "codec", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "roster_call_duration_seconds",
			Help:    "How long RPCs took, from the end of the header to the return of the handler.",
			Buckets: buckets[:],
		}, []string{"procedure", "protocol"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roster_requests_refused_total",
			Help: "Requests that were refused before a handler or the page saw them.",
		}, []string{"reason"}),
		queries: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "roster_store_query_duration_seconds",
			Help:    "How long the store took to answer, or to fail.",
			Buckets: buckets[:],
		}, []string{"operation"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roster_store_errors_total",
			Help: "Queries that the store failed.",
		}, []string{"operation"}),
	}
	pages := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "roster_page_requests_total",
		Help: "Requests of the page and its files, by the class of the HTTP status.",
	}, []string{"status"})
	m.pages[0] = pages.WithLabelValues("none")
	for class := 1; class < len(m.pages); class++ {
		m.pages[class] = pages.WithLabelValues(strconv.Itoa(class) + "xx")
	}
	for _, reason := range rpc.Reasons {
		m.refused.WithLabelValues(string(reason))
	}
	m.procedures.Store(&map[string]*procedure{})
	m.registry.MustRegister(
		m.calls, m.durations, m.refused, pages, m.queries, m.failures,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Read has each scrape read sources. It is called once.
func (m *Metrics) Read(sources Sources) {
	m.registry.MustRegister(&scraped{sources: sources, metrics: m})
}

// Registry is where more metrics can be registered. It is nobody else's.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Handler answers a scrape, as text or as OpenMetrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		// What can be read is better than nothing.
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
	})
}

// Serves implements rpc.Observer. A counter must be there before it rises, or its first step shows in
// no rate: so the usual ones are made now. A procedure that the port no longer has keeps what it
// counted.
func (m *Metrics) Serves(mounted *rpc.Table) {
	table := maps.Clone(*m.procedures.Load())
	for _, method := range mounted.Methods() {
		if table[method.Path] != nil {
			continue
		}
		p := &procedure{path: method.Path}
		table[method.Path] = p
		for _, protocol := range []rpc.Protocol{rpc.GRPC, rpc.GRPCWeb, rpc.Connect} {
			m.counter(p, protocol, rpc.Proto, 0)
		}
		m.counter(p, rpc.Connect, rpc.JSON, 0)
	}
	m.procedures.Store(&table)
}

// Begin implements rpc.Observer.
func (m *Metrics) Begin(c *rpc.Call, r *http.Request) {
	if p := (*m.procedures.Load())[r.URL.Path]; p != nil {
		p.inFlight.Add(1)
		c.InFlight = &p.inFlight
	}
}

// End implements rpc.Observer.
func (m *Metrics) End(c *rpc.Call, r *http.Request) {
	if c.InFlight != nil {
		c.InFlight.Add(-1)
	}
	p := (*m.procedures.Load())[c.Procedure]
	if c.Refused != "" {
		m.refused.WithLabelValues(string(c.Refused)).Inc()
	}
	switch {
	case p != nil && c.Protocol != rpc.NotRPC:
		m.counter(p, c.Protocol, c.Codec, codeIndex(c.Code())).Inc()
		m.duration(p, c.Protocol).Observe(c.Took.Seconds())
	case c.Refused == "":
		class := c.Status() / 100
		if class >= len(m.pages) {
			class = 0
		}
		m.pages[class].Inc()
	}
}

func (m *Metrics) counter(p *procedure, protocol rpc.Protocol, codec rpc.Codec, code int) prometheus.Counter {
	return p.codes[protocol][codec][code].get(func() prometheus.Counter {
		return m.calls.WithLabelValues(p.path, protocol.String(), codec.String(), codeNames[code])
	})
}

func (m *Metrics) duration(p *procedure, protocol rpc.Protocol) prometheus.Observer {
	return p.durations[protocol].get(func() prometheus.Observer {
		return m.durations.WithLabelValues(p.path, protocol.String())
	})
}
