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

// buckets are the upper bounds, in seconds, of the histograms of durations. A look-up of two ids
// takes some 30 µs, and few callers wait for longer than 10 s. There are no native histograms
// besides: they cost as much again, and a Prometheus that scrapes them drops the buckets, which
// dashboards query.
var buckets = [...]float64{
	50e-6, 100e-6, 250e-6, 500e-6,
	1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3,
	1, 2.5, 5, 10,
}

// maxProcedures is how many procedures have metrics of their own. The services of upstreams are what those
// say, and change; the calls of further procedures count for the procedure "other".
const maxProcedures = 2000

const otherProcedures = "other"

// Metrics counts the calls of a port for Prometheus, in a registry of its own. It is an
// [rpc.Observer].
type Metrics struct {
	registry *prometheus.Registry

	calls     *prometheus.CounterVec
	faults    *prometheus.CounterVec
	durations *prometheus.HistogramVec
	refused   *prometheus.CounterVec
	queries   *prometheus.HistogramVec
	failures  *prometheus.CounterVec
	pages     [6]prometheus.Counter // by the first digit of the status; index 0 is for no status

	procedures atomic.Pointer[map[string]*procedure]
	others     *procedure // of those beyond maxProcedures; nil if there are none
}

// A procedure has the metrics of one procedure. It keeps each counter once it has been made, so
// that counting a call looks up no labels.
type procedure struct {
	path      string
	inFlight  atomic.Int64
	faults    prometheus.Counter
	codes     [rpc.Protocols][rpc.Codecs][len(codeNames)]lazy[prometheus.Counter]
	durations [rpc.Protocols]lazy[prometheus.Observer]
}

// lazy is one metric of a family, which is made when it is first used.
type lazy[M any] struct{ made atomic.Pointer[M] }

func (l *lazy[M]) get(make func() M) M {
	if m := l.made.Load(); m != nil {
		return *m
	}
	m := make() // concurrent callers get the same metric from the family
	l.made.Store(&m)
	return m
}

// codeNames are the codes of gRPC by number, as Connect writes them.
var codeNames = [...]string{
	"ok", "canceled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists",
	"permission_denied", "resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented",
	"internal", "unavailable", "data_loss", "unauthenticated",
}

// codeIndex returns the index of code in codeNames. A code that gRPC does not have counts as
// unknown.
func codeIndex(code connect.Code) int {
	if int(code) >= len(codeNames) {
		return int(connect.CodeUnknown)
	}
	return int(code)
}

// NewMetrics returns the metrics of a port, all of them zero.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roster_calls_total",
			Help: "RPCs that have ended.",
		}, []string{"procedure", "protocol", "codec", "code"}),
		faults: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roster_call_faults_total",
			Help: "RPCs that failed by a fault of the server, or may have.",
		}, []string{"procedure"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "roster_call_duration_seconds",
			Help:    "Duration of RPCs, from the end of the request header to the return of the handler.",
			Buckets: buckets[:],
		}, []string{"procedure", "protocol"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roster_requests_refused_total",
			Help: "Requests refused before they reached a handler or the page.",
		}, []string{"reason"}),
		queries: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "roster_store_query_duration_seconds",
			Help:    "Duration of queries to the store, failed ones included.",
			Buckets: buckets[:],
		}, []string{"operation"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roster_store_errors_total",
			Help: "Queries that failed in the store.",
		}, []string{"operation"}),
	}
	pages := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "roster_page_requests_total",
		Help: "Requests for the page and its files, by class of the HTTP status.",
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
		m.calls, m.faults, m.durations, m.refused, pages, m.queries, m.failures,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Read adds the metrics that are read from sources at each scrape. It may be called once.
func (m *Metrics) Read(sources Sources) {
	m.registry.MustRegister(&scraped{sources: sources, metrics: m})
}

// Registry returns the registry, for further metrics. No other part of the program uses it.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Handler answers a scrape, as text or as OpenMetrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		// A scrape in which one metric fails still has all the others.
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
	})
}

// Serves implements [rpc.Observer]. It makes the usual counters of each procedure at zero:
// Prometheus sees no rate in a counter that is at 1 when it first appears. A procedure that is no
// longer mounted keeps its counters. There are at most maxProcedures, since those of upstreams are what
// these say they are; the others share one.
func (m *Metrics) Serves(mounted *rpc.Table) {
	table := maps.Clone(*m.procedures.Load())
	maps.DeleteFunc(table, func(_ string, p *procedure) bool { return p == m.others }) // those of now follow
	named := len(table)
	for _, method := range mounted.Methods() {
		if table[method.Path] != nil {
			continue
		}
		if named >= maxProcedures {
			if m.others == nil {
				m.others = &procedure{path: otherProcedures, faults: m.faults.WithLabelValues(otherProcedures)}
			}
			table[method.Path] = m.others
			continue
		}
		named++
		p := &procedure{path: method.Path, faults: m.faults.WithLabelValues(method.Path)}
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
		if c.Fault() {
			p.faults.Inc()
		}
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
