package telemetry

import (
	"context"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/roster/directory"
	"example.com/roster/server/h2"
)

// Sources is where metrics are read from at each scrape. A source that is nil has no metrics.
type Sources struct {
	// Version is the version of the program.
	Version string
	// Directory returns the statistics of the cache.
	Directory func() directory.Stats
	// Connections returns how many connections the port has accepted, and how many are open. Refused
	// returns how many it closed at once because it had its maximum. TLS says whether the port speaks
	// TLS.
	Connections func() (accepted, open uint64)
	Refused     func() uint64
	TLS         bool
	// HTTP2 has the statistics of the HTTP/2 engine. It must be nil if the port serves HTTP/2 with
	// net/http, which has none.
	HTTP2 *h2.Stats
	// Log counts the lines that were dropped because the log's reader was too slow.
	Log *LogQueue
	// AccessLog counts the requests that it left out.
	AccessLog *AccessLog
	// Traces counts the spans that were exported and lost.
	Traces *Traces
	// Draining reports whether the port is shutting down.
	Draining func() bool
	// Users returns how many users the store has. It is asked at each scrape, and has a second.
	Users func(context.Context) (int64, error)
	// StoreSize returns the size of the store's file and of its write-ahead log, in bytes; nil if the
	// store is no file.
	StoreSize func() (data, log int64)
	// Reloads says for kinds of files (tls, tokens) how often they were reloaded, and how often they
	// could not be used.
	Reloads map[string]func() (reloaded, refused uint64)
	// Upstreams returns the servers that the port has services of; each name may occur once.
	Upstreams func() []Upstream
	// CertificateExpiry returns when the certificate in use expires.
	CertificateExpiry func() time.Time
}

// scraped is a prometheus.Collector of the metrics that are read from sources.
type scraped struct {
	sources Sources
	metrics *Metrics
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	descBuild = desc("roster_build_info", "Always 1. The labels are the versions of Roster and of Go.", "version", "goversion")

	descInFlight = desc("roster_calls_in_flight", "RPCs that are running.", "procedure")
	descDraining = desc("roster_draining", "1 while the port shuts down and waits for running calls, otherwise 0.")
	descExpiry   = desc("roster_tls_certificate_expiry_seconds", "Time until the certificate in use expires; negative once it has expired.")

	descAccepted   = desc("roster_connections_accepted_total", "Connections accepted.", "tls")
	descRefused    = desc("roster_connections_refused_total", "Connections closed as soon as they were accepted, because the port had its maximum of them (--max-connections).", "tls")
	descOpen       = desc("roster_connections_open", "Open connections. A new one counts as HTTP/1.1 until it has begun to speak HTTP/2.", "http", "tls")
	descH2Conns    = desc("roster_http2_connections_total", "Connections that began to speak HTTP/2.")
	descStreams    = desc("roster_http2_streams_total", "Streams opened by clients.")
	descStreamsNow = desc("roster_http2_streams_open", "Streams that are open, or whose handlers are still running.")
	descResets     = desc("roster_http2_resets_total", "RST_STREAM frames, by error code of RFC 9113.", "direction", "reason")
	descGoAways    = desc("roster_http2_goaways_total", "GOAWAY frames, by error code of RFC 9113; no_error is a graceful shutdown, of the port or of an idle connection.", "direction", "reason")
	descRefusals   = desc("roster_http2_refusals_total", "Requests and connections that the HTTP/2 engine refused without calling a handler.", "reason")
	descTimeouts   = desc("roster_http2_timeouts_total", "HTTP/2 connections closed because the peer was too slow.", "reason")

	descHits      = desc("roster_cache_hits_total", "Ids found in the cache.")
	descMisses    = desc("roster_cache_misses_total", "Ids not found in the cache.")
	descCached    = desc("roster_cache_entries", "Ids in the cache, including those known not to exist.")
	descCapacity  = desc("roster_cache_capacity_entries", "Maximum number of ids in the cache.")
	descLoads     = desc("roster_cache_loads_total", "Queries to the store for ids missing in the cache, by whether they succeeded.", "outcome")
	descSkipped   = desc("roster_access_log_skipped_total", "Requests that the access log left out because of its rate.")
	descDropped   = desc("roster_log_lines_dropped_total", "Lines of the log that were dropped because its reader stood still or its writer failed.")
	descUsers     = desc("roster_users", "Users in the store.")
	descSize      = desc("roster_store_size_bytes", "Size of the store's files: the data and its write-ahead log.", "file")
	descReloads   = desc("roster_reloads_total", "Reloads of files that had changed, by whether they could be used.", "files", "outcome")
	descSpans     = desc("roster_trace_spans_total", "Spans that were exported to the collector, or lost because the export failed.", "outcome")
	descWrites    = desc("roster_directory_writes_total", "Changes of the directory made through this process, imports included.")
	descWatches   = desc("roster_directory_watches_open", "Open calls of WatchUsers.")
	descUnwatched = desc("roster_directory_watches_dropped_total", "Calls of WatchUsers that this process ended: slow, since the caller did not keep up; lost, since their place is no longer in the history.", "reason")
	descPollAge   = desc("roster_store_poll_age_seconds", "Time since the store last answered with its revision: the maximum age of answers from the cache.")
)

// usualCodes are the error codes that are exported at zero, so that their first occurrence shows in
// a rate. The many others, most of which never occur, are exported once they have occurred.
var usualCodes = []string{"no_error", "cancel", "refused_stream", "protocol_error", "enhance_your_calm", "internal_error"}

var allDescs = []*prometheus.Desc{
	descBuild, descInFlight, descDraining, descExpiry, descAccepted, descRefused, descOpen, descH2Conns, descStreams, descStreamsNow,
	descResets, descGoAways, descRefusals, descTimeouts, descHits, descMisses, descCached, descCapacity, descLoads, descSkipped, descDropped, descUsers, descSize, descReloads, descSpans, descPollAge,
	descWrites, descWatches, descUnwatched,
}

// Describe implements prometheus.Collector.
func (s *scraped) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range slices.Concat(allDescs, upstreamDescs) {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *scraped) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	gauge(descBuild, 1, s.sources.Version, runtime.Version())
	others := false
	for _, p := range *s.metrics.procedures.Load() {
		if p.path == otherProcedures { // many paths have it
			if others {
				continue
			}
			others = true
		}
		gauge(descInFlight, float64(p.inFlight.Load()), p.path)
	}
	if s.sources.Draining != nil {
		gauge(descDraining, number(s.sources.Draining()))
	}
	if s.sources.CertificateExpiry != nil {
		gauge(descExpiry, time.Until(s.sources.CertificateExpiry()).Seconds())
	}
	if s.sources.Directory != nil {
		stats := s.sources.Directory()
		counter(descHits, stats.Hits)
		counter(descMisses, stats.Misses)
		gauge(descCached, float64(stats.Cached))
		gauge(descCapacity, float64(stats.Capacity))
		counter(descLoads, stats.Loads, "ok")
		counter(descLoads, stats.LoadFailures, "error")
		gauge(descPollAge, time.Since(stats.Answered).Seconds())
		counter(descWrites, stats.Writes)
		gauge(descWatches, float64(stats.Watches))
		counter(descUnwatched, stats.WatchesSlow, "slow")
		counter(descUnwatched, stats.WatchesLost, "lost")
	}
	if s.sources.Users != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if users, err := s.sources.Users(ctx); err == nil { // else there is no number to show
			gauge(descUsers, float64(users))
		}
	}
	if s.sources.StoreSize != nil {
		data, log := s.sources.StoreSize()
		gauge(descSize, float64(data), "data")
		gauge(descSize, float64(log), "log")
	}
	for files, counts := range s.sources.Reloads {
		reloaded, refused := counts()
		counter(descReloads, reloaded, files, "ok")
		counter(descReloads, refused, files, "refused")
	}
	if s.sources.Log != nil {
		counter(descDropped, s.sources.Log.Dropped())
	}
	if s.sources.AccessLog != nil {
		counter(descSkipped, s.sources.AccessLog.Skipped())
	}
	if s.sources.Traces != nil {
		exported, lost := s.sources.Traces.Exported()
		counter(descSpans, exported, "exported")
		counter(descSpans, lost, "lost")
	}
	if s.sources.Connections != nil {
		s.collectPort(gauge, counter)
	}
	if s.sources.Upstreams != nil {
		s.collectUpstreams(gauge, counter)
	}
}

func (s *scraped) collectPort(gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, uint64, ...string)) {
	secure := "false"
	if s.sources.TLS {
		secure = "true"
	}
	accepted, open := s.sources.Connections()
	counter(descAccepted, accepted, secure)
	if s.sources.Refused != nil {
		counter(descRefused, s.sources.Refused(), secure)
	}
	if s.sources.HTTP2 == nil {
		gauge(descOpen, float64(open), "any", secure)
		return
	}
	engine := s.sources.HTTP2.Read()
	gauge(descOpen, float64(engine.ConnectionsOpen), "2", secure)
	// max, because the two numbers were not read at the same moment.
	gauge(descOpen, max(0, float64(open)-float64(engine.ConnectionsOpen)), "1.1", secure)
	counter(descH2Conns, engine.Connections)
	counter(descStreams, engine.Streams)
	gauge(descStreamsNow, float64(engine.StreamsOpen))
	byCode := func(d *prometheus.Desc, direction string, counts map[string]uint64) {
		for reason, n := range counts {
			if n > 0 || slices.Contains(usualCodes, reason) {
				counter(d, n, direction, reason)
			}
		}
	}
	byCode(descResets, "sent", engine.ResetsSent)
	byCode(descResets, "received", engine.ResetsReceived)
	byCode(descGoAways, "sent", engine.GoAwaysSent)
	byCode(descGoAways, "received", engine.GoAwaysReceived)
	for reason, n := range engine.Refused {
		counter(descRefusals, n, reason)
	}
	for reason, n := range engine.TimedOut {
		counter(descTimeouts, n, reason)
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
