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

	"connectrpc.com/connect"
	"go.opentelemetry.io/otel/trace"

	"example.com/roster/server/rpc"
)

// AccessLogConfig says which requests are logged.
type AccessLogConfig struct {
	// Successes and Errors are how many requests that went well, and that did
	// not or were slow, are logged in a second: the first of it, and then no
	// more. What is left out is counted in the next line. Negative is all.
	Successes, Errors int
	// Slow is what a call must take to be logged beside the errors; 0 is never.
	// Streams may take any time, and are never slow.
	Slow time.Duration
}

// AccessLog writes a line for a request when it has ended. It is a
// rpc.Observer.
//
// A line has the time, procedure, protocol, code, duration, what was sent, who
// called by the name of their token or certificate, and the trace if there is
// one. It has no personal data: nothing of a message, neither ids nor error
// texts, no path and no query; and of the caller's address the network alone,
// /24 or /48. A logger that takes debug gets the whole address, and the path of
// what is no RPC.
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
	l.successes.most, l.errors.most = int64(config.Successes), int64(config.Errors)
	if !log.Enabled(context.Background(), slog.LevelInfo) {
		l.successes.most = 0
	}
	return l
}

// Skipped is how many requests were left out so far.
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
		l.config.Slow > 0 && c.Took >= l.config.Slow && !l.mayLast(c.Procedure) {
		w = &l.errors
	}
	left, ok := w.take(int64((c.Start.Sub(l.base) + c.Took) / time.Second))
	if !ok {
		return
	}
	l.write(c, r, left)
}

// mayLast tells whether calls of a procedure are not slow however long they take, being streams.
func (l *AccessLog) mayLast(procedure string) bool {
	method := l.mounted.Load().Method(procedure)
	return method != nil && method.Streams()
}

func (l *AccessLog) write(c *rpc.Call, r *http.Request, left int64) {
	attrs := make([]slog.Attr, 0, 12)
	add := func(a ...slog.Attr) { attrs = append(attrs, a...) }
	message := "request"
	if c.Procedure != "" {
		message = "call"
		add(slog.String("procedure", c.Procedure))
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
	if left > 0 {
		add(slog.Int64("left_out", left))
	}
	l.log.LogAttrs(c, level(c), message, attrs...)
}

// level is warn for what is, or may be, a fault of the server.
func level(c *rpc.Call) slog.Level {
	switch c.Code() {
	case connect.CodeUnknown, connect.CodeInternal, connect.CodeUnavailable, connect.CodeDataLoss:
		return slog.LevelWarn
	}
	if c.Status() >= 500 {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// method is r's method if it is one that exists: it may be any word.
func method(name string) string {
	switch name {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return name
	}
	return "other"
}

// peer is the caller's address as the log may have it.
func (l *AccessLog) peer(address string) string {
	if l.debug {
		return address
	}
	return network(address)
}

// network is the network of an address: a person's machine is one of 256, or
// one of a site's.
func network(address string) string {
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

// traceID is the id of the trace that the request is part of: our span's, or,
// without one, the caller's (W3C Trace Context §3.2).
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

// A window lets so many pass in a second. It is right to within the few that
// come at the very moment a second begins.
type window struct {
	most    int64
	second  atomic.Int64
	passed  atomic.Int64
	skipped atomic.Int64
	told    atomic.Int64 // of skipped
}

// take reports whether one more may pass in second, and then how many have not
// since one last did.
func (w *window) take(second int64) (left int64, ok bool) {
	switch {
	case w.most < 0:
		return 0, true
	case w.most == 0:
		return 0, false
	}
	if before := w.second.Load(); second > before && w.second.CompareAndSwap(before, second) {
		w.passed.Store(0)
	}
	// Loaded first: adding for each that is too many would cost more.
	if w.passed.Load() >= w.most || w.passed.Add(1) > w.most {
		w.skipped.Add(1)
		return 0, false
	}
	skipped := w.skipped.Load()
	return skipped - w.told.Swap(skipped), true
}
