package telemetry

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"example.com/roster/server/rpc"
)

// AccessLogConfig says which requests are logged.
type AccessLogConfig struct {
	// Successes is how many successful requests are logged per second, and Errors how many failed or
	// slow ones: the first of each second. The next line of the same kind has the number of requests
	// that were left out. A negative number means all.
	Successes, Errors int
	// Slow is the duration from which on a call counts as slow and is logged with the errors; 0 means
	// that none is. Streams may take any time, and are never slow.
	Slow time.Duration
}

// AccessLog writes a line for a request when it has ended. It is an [rpc.Observer].
//
// A line has the time, procedure, the other server that the procedure is one of, protocol, code,
// duration, the bytes sent, the name of the caller's token or certificate, and the trace if there is
// one. It has no personal data: nothing of a message, neither ids nor error texts, no path and no
// query; and of the caller's address only the network, /24 or /48. A logger at debug level gets the
// whole address, and the path of requests that are no RPC.
type AccessLog struct {
	log       *slog.Logger
	config    AccessLogConfig
	debug     bool
	successes window
	errors    window
	mounted   atomic.Pointer[rpc.Table]
	base      time.Time
}

// NewAccessLog returns an access log that writes to log.
func NewAccessLog(log *slog.Logger, config AccessLogConfig) *AccessLog {
	l := &AccessLog{
		log:    log,
		config: config,
		debug:  log.Enabled(context.Background(), slog.LevelDebug),
		base:   time.Now(),
	}
	l.successes.max, l.errors.max = int64(config.Successes), int64(config.Errors)
	if !log.Enabled(context.Background(), slog.LevelInfo) {
		l.successes.max = 0
	}
	return l
}

// Skipped returns how many requests have been left out so far.
func (l *AccessLog) Skipped() uint64 {
	return uint64(l.successes.skipped.Load() + l.errors.skipped.Load())
}

// Serves implements rpc.Observer.
func (l *AccessLog) Serves(mounted *rpc.Table) { l.mounted.Store(mounted) }

// Begin implements rpc.Observer.
func (l *AccessLog) Begin(*rpc.Call, *http.Request) {}

// End implements rpc.Observer.
func (l *AccessLog) End(c *rpc.Call, r *http.Request) {
	w := &l.successes
	if c.Failure != nil || c.Refused != "" || c.Status() >= 400 ||
		l.config.Slow > 0 && c.Took >= l.config.Slow && !l.streams(c.Procedure) {
		w = &l.errors
	}
	leftOut, ok := w.take(int64((c.Start.Sub(l.base) + c.Took) / time.Second))
	if !ok {
		return
	}
	l.write(c, r, leftOut)
}

// streams reports whether a procedure streams, so that none of its calls counts as slow.
func (l *AccessLog) streams(procedure string) bool {
	method := l.mounted.Load().Method(procedure)
	return method != nil && method.Streams()
}

// upstream returns the server that answers a procedure in place of this port, empty if none does.
func (l *AccessLog) upstream(procedure string) string {
	method := l.mounted.Load().Method(procedure)
	if method == nil || method.Upstream == rpc.Store {
		return ""
	}
	return method.Upstream
}

func (l *AccessLog) write(c *rpc.Call, r *http.Request, leftOut int64) {
	attrs := make([]slog.Attr, 0, 13)
	add := func(a ...slog.Attr) { attrs = append(attrs, a...) }
	message := "request"
	if c.Procedure != "" {
		message = "call"
		add(slog.String("procedure", c.Procedure))
		if upstream := l.upstream(c.Procedure); upstream != "" {
			add(slog.String("upstream", upstream))
		}
	}
	if c.Protocol != rpc.NotRPC {
		add(slog.String("protocol", c.Protocol.String()), slog.String("codec", c.Codec.String()))
	} else {
		add(slog.String("method", method(r.Method)), slog.Int("status", c.Status()))
	}
	if c.Protocol != rpc.NotRPC || c.Failure != nil {
		add(slog.String("code", codeNames[codeIndex(c.Code())]))
	}
	if c.Refused != "" {
		add(slog.String("refused", string(c.Refused)))
	}
	add(slog.Float64("ms", float64(c.Took.Microseconds())/1000), slog.Int64("sent", c.Sent()),
		slog.String("http", r.Proto), slog.String("peer", l.peer(r.RemoteAddr)))
	if c.Identity != "" {
		add(slog.String("identity", c.Identity))
	}
	if id := traceID(c, r); id != "" {
		add(slog.String("trace", id))
	}
	if l.debug && c.Procedure == "" {
		add(slog.String("path", r.URL.Path))
	}
	if leftOut > 0 {
		add(slog.Int64("left_out", leftOut))
	}
	l.log.LogAttrs(c, level(c), message, attrs...)
}

// level returns warn for errors that are, or may be, a fault of the server, and otherwise info.
func level(c *rpc.Call) slog.Level {
	if c.Fault() || c.Protocol == rpc.NotRPC && c.Status() >= 500 {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// method returns name if it is a method of HTTP, and otherwise "other", since a client may send any
// word.
func method(name string) string {
	switch name {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return name
	}
	return "other"
}

// peer returns what the log may have of the caller's address.
func (l *AccessLog) peer(address string) string {
	if l.debug {
		return address
	}
	return network(address)
}

// network returns the network of an address, so that the log does not tell which of its machines
// called: one of 256 with IPv4, one of a whole site with IPv6. A caller at a Unix socket has none.
func network(address string) string {
	if address == "" || strings.HasPrefix(address, "@") || strings.HasPrefix(address, "/") {
		return "unix"
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	ip = ip.Unmap().WithZone("")
	if ip.IsLoopback() {
		return ip.String()
	}
	bits := 48
	if ip.Is4() {
		bits = 24
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return ""
	}
	return prefix.String()
}

// traceID returns the id of the trace that the request is part of, from our span, or if there is
// none from the caller's header (W3C Trace Context §3.2).
func traceID(ctx context.Context, r *http.Request) string {
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		return span.TraceID().String()
	}
	parent := r.Header["Traceparent"]
	if len(parent) != 1 || len(parent[0]) < 55 {
		return ""
	}
	fields := strings.Split(parent[0], "-")
	if len(fields) < 4 {
		return ""
	}
	id, err := trace.TraceIDFromHex(fields[1])
	if err != nil {
		return ""
	}
	return id.String()
}

// A window allows max requests in each second. At the moment at which a second begins it may
// miscount by a few.
type window struct {
	max     int64
	second  atomic.Int64
	passed  atomic.Int64
	skipped atomic.Int64
	told    atomic.Int64 // those of skipped that a line has reported
}

// take reports whether one more request is allowed in second, and if so, how many were not since
// the last one that was.
func (w *window) take(second int64) (leftOut int64, ok bool) {
	switch {
	case w.max < 0:
		return 0, true
	case w.max == 0:
		return 0, false
	}
	if before := w.second.Load(); second > before && w.second.CompareAndSwap(before, second) {
		w.passed.Store(0)
	}
	// Load comes first because it is cheaper than Add, and enough for requests beyond the maximum.
	if w.passed.Load() >= w.max || w.passed.Add(1) > w.max {
		w.skipped.Add(1)
		return 0, false
	}
	skipped := w.skipped.Load()
	return skipped - w.told.Swap(skipped), true
}
