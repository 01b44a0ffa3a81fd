package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"example.com/roster/directory"
	"example.com/roster/server/rpc"
)

// Traces makes a span for every sampled call, as a child of the caller's span if the caller sent
// one (W3C Trace Context), and child spans for each wait for the store and each query. It is an
// [rpc.Observer] and must be the first one of a port: the observers after it, and the handler, find
// the span in the call's context.
//
// Spans follow the semantic conventions for RPC, v1.43. They have the data of the access log, and
// like it nothing of a message.
type Traces struct {
	provider   *sdktrace.TracerProvider
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	exporter   *exporter
	kind       []trace.SpanStartOption
	mounted    atomic.Pointer[rpc.Table]
}

// TracesWanted reports whether the environment asks for traces: at least one of
// OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set,
// OTEL_SDK_DISABLED is not true, and OTEL_TRACES_EXPORTER is not none. It returns false and an
// error if the environment asks for an exporter or a protocol that this program does not have.
func TracesWanted() (bool, error) {
	exporters := os.Getenv("OTEL_TRACES_EXPORTER")
	endpoint := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") + os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")
	switch {
	case strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true"), exporters == "none", exporters == "" && endpoint == "":
		return false, nil
	case exporters != "" && exporters != "otlp":
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER=%s: this program has otlp and none", exporters)
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		switch value := os.Getenv(name); value {
		case "":
			continue
		case "http/protobuf":
		default:
			return false, fmt.Errorf("%s=%s: this program exports by http/protobuf, which collectors take on port 4318", name, value)
		}
		break
	}
	return true, nil
}

// NewTraces starts an exporter that is configured by the environment: by OpenTelemetry's variables
// for the OTLP exporter, the sampler, the batches, the resource and the propagators. It opens no
// connection yet. The caller must call Close.
//
// A failing exporter does not slow calls down: spans wait in a queue of a fixed size
// (OTEL_BSP_MAX_QUEUE_SIZE), and are dropped when it is full.
func NewTraces(ctx context.Context, version string, log *slog.Logger) (*Traces, error) {
	propagator, err := propagators(os.Getenv("OTEL_PROPAGATORS"))
	if err != nil {
		log.Warn("traces: " + err.Error())
	}
	otlp, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("roster"), semconv.ServiceVersion(version)),
		resource.WithFromEnv(), // last, so that the environment overrides the others
	)
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("traces: %w", err)
	}
	export := &exporter{SpanExporter: otlp, log: log}
	t := newTraces(sdktrace.NewTracerProvider(sdktrace.WithBatcher(export), sdktrace.WithResource(about)), propagator)
	t.exporter = export
	return t, nil
}

func newTraces(provider *sdktrace.TracerProvider, propagator propagation.TextMapPropagator) *Traces {
	return &Traces{
		provider:   provider,
		tracer:     provider.Tracer("example.com/roster/server"),
		propagator: propagator,
		kind:       []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)},
	}
}

// propagators returns the propagators of a list such as OTEL_PROPAGATORS has. Those that this
// program does not have are left out and named in the error.
func propagators(list string) (propagation.TextMapPropagator, error) {
	if list == "" {
		list = "tracecontext,baggage"
	}
	var known []propagation.TextMapPropagator
	var unknown []string
	for name := range strings.SplitSeq(list, ",") {
		switch name = strings.TrimSpace(name); name {
		case "tracecontext":
			known = append(known, propagation.TraceContext{})
		case "baggage":
			known = append(known, propagation.Baggage{})
		case "none", "":
		default:
			unknown = append(unknown, name)
		}
	}
	var err error
	if len(unknown) > 0 {
		err = fmt.Errorf("OTEL_PROPAGATORS has %s: this program has tracecontext, baggage and none", strings.Join(unknown, ", "))
	}
	return propagation.NewCompositeTextMapPropagator(known...), err
}

// Propagator returns the propagator that passes the trace of a context on to other servers.
func (t *Traces) Propagator() propagation.TextMapPropagator { return t.propagator }

// Provider returns the provider of tracers for spans besides those of the port's calls, such as the
// calls that a handler makes.
func (t *Traces) Provider() trace.TracerProvider { return t.provider }

// Close exports the spans that still wait. It gives up when ctx is done.
func (t *Traces) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// Exported returns how many spans were exported, and how many were lost because their export
// failed.
func (t *Traces) Exported() (spans, lost uint64) {
	return t.exporter.exported.Load(), t.exporter.lost.Load()
}

// spanName returns the name of a procedure's span: its path without the leading slash.
func spanName(path string) string { return strings.TrimPrefix(path, "/") }

// Serves implements rpc.Observer.
func (t *Traces) Serves(mounted *rpc.Table) { t.mounted.Store(mounted) }

// Begin implements rpc.Observer.
func (t *Traces) Begin(c *rpc.Call, r *http.Request) {
	method := t.mounted.Load().Method(r.URL.Path)
	if method == nil {
		return // the page has no spans
	}
	ctx := c.Parent()
	if r.Header["Traceparent"] != nil || r.Header["Baggage"] != nil {
		ctx = t.propagator.Extract(ctx, propagation.HeaderCarrier(r.Header))
	}
	ctx, _ = t.tracer.Start(ctx, spanName(method.Path), t.kind...)
	c.SetParent(ctx)
}

// End implements rpc.Observer.
func (t *Traces) End(c *rpc.Call, r *http.Request) {
	span := trace.SpanFromContext(c.Parent())
	if !span.IsRecording() {
		return
	}
	attributes := make([]attribute.KeyValue, 0, 6)
	switch c.Protocol {
	case rpc.GRPC, rpc.GRPCWeb:
		attributes = append(attributes, semconv.RPCSystemNameGRPC)
	case rpc.Connect:
		attributes = append(attributes, semconv.RPCSystemNameConnectrpc)
	default:
		attributes = append(attributes, semconv.HTTPResponseStatusCode(c.Status()))
	}
	attributes = append(attributes, semconv.RPCMethod(spanName(r.URL.Path)))
	if c.Protocol != rpc.NotRPC {
		code := strings.ToUpper(codeNames[codeIndex(c.Code())])
		attributes = append(attributes, semconv.RPCResponseStatusCode(code), attribute.String("roster.protocol", c.Protocol.String()))
		if c.Failure != nil {
			attributes = append(attributes, semconv.ErrorTypeKey.String(code))
		}
	}
	if c.Refused != "" {
		attributes = append(attributes, attribute.String("roster.refused", string(c.Refused)))
	}
	span.SetAttributes(attributes...)
	if slices.Contains(faults, c.Code()) {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// faults are the codes that the semantic conventions call errors of the server. The others are
// errors of the caller.
var faults = []connect.Code{
	connect.CodeUnknown, connect.CodeDeadlineExceeded, connect.CodeUnimplemented,
	connect.CodeInternal, connect.CodeUnavailable, connect.CodeDataLoss,
}

// Waiting is for directory.Config.OnWait. It makes a span for the time in which a call waits for
// users that the cache does not have.
func (t *Traces) Waiting(ctx context.Context, missing int) (context.Context, func(error)) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, func(error) {}
	}
	ctx, span := t.tracer.Start(ctx, "cache load", trace.WithAttributes(attribute.Int("roster.cache.missing", missing)))
	return ctx, func(err error) { end(span, err) }
}

// Store returns a store that passes everything on to of, and makes a span for each query of a call.
func (t *Traces) Store(of directory.Store) directory.Store { return &tracedStore{of, t} }

type tracedStore struct {
	directory.Store
	traces *Traces
}

// Get implements directory.Store.
func (s *tracedStore) Get(ctx context.Context, ids []int32) (users []directory.Record, state directory.State, err error) {
	ctx, span := s.traces.query(ctx, "get", len(ids))
	defer func() { end(span, err) }()
	return s.Store.Get(ctx, ids)
}

// List implements directory.Store.
func (s *tracedStore) List(ctx context.Context, query directory.Query) (page directory.Page, err error) {
	ctx, span := s.traces.query(ctx, "list", query.Limit)
	defer func() { end(span, err) }()
	return s.Store.List(ctx, query)
}

// Write implements directory.Store.
func (s *tracedStore) Write(ctx context.Context, change directory.Write) (written directory.Written, err error) {
	ctx, span := s.traces.query(ctx, "write", len(change.Creates)+len(change.Updates)+len(change.Deletes))
	defer func() { end(span, err) }()
	return s.Store.Write(ctx, change)
}

// Changes implements directory.Store.
func (s *tracedStore) Changes(ctx context.Context, from directory.Cursor, limit int) (changes []directory.Change, state directory.State, err error) {
	ctx, span := s.traces.query(ctx, "changes", limit)
	defer func() { end(span, err) }()
	return s.Store.Changes(ctx, from, limit)
}

// query begins the span of a query for size rows. The span is nil if the call has none.
func (t *Traces) query(ctx context.Context, operation string, size int) (context.Context, trace.Span) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, nil
	}
	return t.tracer.Start(ctx, "store "+operation, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(semconv.DBOperationName(operation), attribute.Int("roster.store.rows", size)))
}

// end ends a span, which may be nil. Of an error the span has only the kind, since its text may
// contain personal data.
func end(span trace.Span, err error) {
	if span == nil {
		return
	}
	if err != nil {
		kind := "_OTHER"
		switch {
		case errors.Is(err, directory.ErrUnavailable):
			kind = "unavailable"
		case errors.Is(err, context.Canceled):
			kind = "canceled"
		case errors.Is(err, context.DeadlineExceeded):
			kind = "deadline_exceeded"
		}
		span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// exporter is a SpanExporter that logs one line when exports begin to fail, and one when they
// succeed again.
type exporter struct {
	sdktrace.SpanExporter
	log *slog.Logger

	exported, lost atomic.Uint64
	failing        time.Time // since when exports fail; used by the batcher's goroutine alone
	lostBefore     uint64
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil:
		if e.failing.IsZero() {
			e.failing, e.lostBefore = time.Now(), e.lost.Load()
			e.log.Warn("traces cannot be exported: spans are dropped until the collector answers again", "error", err.Error())
		}
		e.lost.Add(uint64(len(spans)))
	default:
		e.exported.Add(uint64(len(spans)))
		if !e.failing.IsZero() {
			e.log.Info("traces are exported again", "after", time.Since(e.failing).Round(time.Second).String(), "lost", e.lost.Load()-e.lostBefore)
			e.failing = time.Time{}
		}
	}
	return nil // the SDK would log every error
}
