package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	"example.com/roster/directory/storetest"
	"example.com/roster/server"
	"example.com/roster/server/rpc"
	"example.com/roster/server/rpc/rpctest"
	"example.com/roster/server/service"
)

const (
	traceOfCaller = "0af7651916cd43dd8448eb211c80319c"
	spanOfCaller  = "b7ad6b7169203331"
)

// traced is a port with the users 1 and 2, whose spans are recorded in spans.
func traced(t *testing.T, sampler sdktrace.Sampler, more ...rpctest.Route) (serve func(path, body string, headers ...string), spans *tracetest.InMemoryExporter) {
	t.Helper()
	spans = tracetest.NewInMemoryExporter()
	traces := newTraces(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans), sdktrace.WithSampler(sampler)),
		propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	ctx := context.Background()
	store, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "roster.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if err := storetest.Put(ctx, store, directory.User{ID: 1, Name: "Ann Secret", Age: 30, Email: "ann@example.com"}); err != nil {
		t.Fatal(err)
	}
	dir, err := directory.New(ctx, traces.Store(store), directory.Config{OnWait: traces.Waiting})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dir.Close)
	handler := NewServer(t, server.Config{Directory: dir, Observers: []rpc.Observer{traces}}, more...).Handler()
	return func(path, body string, headers ...string) {
		t.Helper()
		r := httptest.NewRequest("POST", path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}, spans
}

// tree formats spans as lines: name, parent, kind, status and attributes.
func tree(spans tracetest.SpanStubs) string {
	names := map[trace.SpanID]string{}
	for _, s := range spans {
		names[s.SpanContext.SpanID()] = s.Name
	}
	var lines []string
	for _, s := range spans {
		parent := names[s.Parent.SpanID()]
		switch {
		case s.Parent.IsRemote():
			parent = s.Parent.SpanID().String()
		case parent == "":
			parent = "root"
		}
		var attributes []string
		for _, a := range s.Attributes {
			attributes = append(attributes, fmt.Sprintf("%s=%v", a.Key, a.Value.String()))
		}
		lines = append(lines, fmt.Sprintf("%s < %s %v %v %s", s.Name, parent, s.SpanKind, s.Status.Code, strings.Join(attributes, " ")))
	}
	return strings.Join(lines, "\n")
}

func TestSpans(t *testing.T) {
	routes := []rpctest.Route{route("/s/Fails", errors.New("ann@example.com is broken")), route("/s/Refuses", connect.NewError(connect.CodeNotFound, nil))}
	parent := []string{"Traceparent", "00-" + traceOfCaller + "-" + spanOfCaller + "-01"}
	tests := []struct {
		name, path, body string
		headers          []string
		want             string
	}{
		{"a miss, beneath the caller's span", "/MyService/User", `{"userIDs":[1,2]}`, parent, `
store get < cache load client Unset db.operation.name=get roster.store.rows=2
cache load < MyService/User internal Unset roster.cache.missing=2
MyService/User < ` + spanOfCaller + ` server Unset rpc.system.name=connectrpc rpc.method=MyService/User rpc.response.status_code=OK roster.protocol=connect`},
		{"a hit, of nobody's trace", "/MyService/User", `{"userIDs":[1,2]}`, nil, `
MyService/User < root server Unset rpc.system.name=connectrpc rpc.method=MyService/User rpc.response.status_code=OK roster.protocol=connect`},
		{"a fault of ours", "/s/Fails", `{}`, nil, `
s/Fails < root server Error rpc.system.name=connectrpc rpc.method=s/Fails rpc.response.status_code=INTERNAL roster.protocol=connect error.type=INTERNAL`},
		{"a fault of the caller's", "/s/Refuses", `{}`, nil, `
s/Refuses < root server Unset rpc.system.name=connectrpc rpc.method=s/Refuses rpc.response.status_code=NOT_FOUND roster.protocol=connect error.type=NOT_FOUND`},
		{"malformed", "/MyService/User", `{`, nil, `
MyService/User < root server Unset rpc.system.name=connectrpc rpc.method=MyService/User rpc.response.status_code=INVALID_ARGUMENT roster.protocol=connect error.type=INVALID_ARGUMENT`},
		{"no RPC", "/MyService/User", `{}`, []string{"Content-Type", "text/plain"}, `
MyService/User < root server Unset http.response.status_code=415 rpc.method=MyService/User roster.refused=content_type`},
		{"a caller that does not sample", "/MyService/User", `{"userIDs":[1]}`, []string{"Traceparent", "00-" + traceOfCaller + "-" + spanOfCaller + "-00"}, ``},
		{"a traceparent that is none", "/MyService/User", `{"userIDs":[1]}`, []string{"Traceparent", "00-zz-1-01"}, `
MyService/User < root server Unset rpc.system.name=connectrpc rpc.method=MyService/User rpc.response.status_code=OK roster.protocol=connect`},
		{"the page", "/", ``, nil, ``},
		{"no such procedure", "/MyService/None", `{}`, nil, ``},
	}
	serve, spans := traced(t, sdktrace.ParentBased(sdktrace.AlwaysSample()), routes...)
	for _, test := range tests {
		spans.Reset()
		serve(test.path, test.body, test.headers...)
		got := spans.GetSpans()
		if text := tree(got); text != strings.TrimSpace(test.want) {
			t.Errorf("%s:\n%s\nwant\n%s", test.name, text, test.want)
		}
		for _, s := range got {
			if strings.Contains(fmt.Sprintf("%+v", s), "Secret") || strings.Contains(fmt.Sprintf("%+v", s), "ann@") {
				t.Errorf("%s: personal data in %+v", test.name, s)
			}
			if test.headers != nil && strings.Contains(test.want, spanOfCaller) && s.SpanContext.TraceID().String() != traceOfCaller {
				t.Errorf("%s: %s has the trace %v", test.name, s.Name, s.SpanContext.TraceID())
			}
		}
	}
}

// A call that is not sampled has no span, and neither have its queries, which would otherwise be
// roots of traces of their own.
func TestNothingIsSampled(t *testing.T) {
	serve, spans := traced(t, sdktrace.NeverSample())
	serve("/MyService/User", `{"userIDs":[1]}`)
	if got := spans.GetSpans(); len(got) != 0 {
		t.Errorf("spans:\n%s", tree(got))
	}
}

// The handler finds the span, and so what it calls gets the trace.
func TestTheHandlerHasTheSpan(t *testing.T) {
	var seen trace.SpanContext
	var carried propagation.MapCarrier
	answer := func(ctx context.Context, _ *emptypb.Empty) (*emptypb.Empty, error) {
		seen = trace.SpanContextFromContext(ctx)
		carried = propagation.MapCarrier{}
		propagation.Baggage{}.Inject(ctx, carried)
		return &emptypb.Empty{}, nil
	}
	serve, _ := traced(t, sdktrace.AlwaysSample(), rpctest.Route{Path: "/s/Looks", Handler: connect.NewUnaryHandlerSimple("/s/Looks", answer)})
	serve("/s/Looks", "{}", "Traceparent", "00-"+traceOfCaller+"-"+spanOfCaller+"-01", "Baggage", "tenant=north")
	if seen.TraceID().String() != traceOfCaller || !seen.IsSampled() || seen.IsRemote() {
		t.Errorf("the handler is in %v", seen)
	}
	if carried["baggage"] != "tenant=north" {
		t.Errorf("baggage %q", carried["baggage"])
	}
}

func route(path string, err error) rpctest.Route {
	answer := func(context.Context, *emptypb.Empty) (*emptypb.Empty, error) { return nil, err }
	return rpctest.Route{Path: path, Handler: connect.NewUnaryHandlerSimple(path, answer, service.HandlerOptions(slog.New(slog.DiscardHandler)))}
}

func TestWhenTracesAreWanted(t *testing.T) {
	tests := []struct {
		env    string
		wanted bool
		err    string
	}{
		{"", false, ""},
		{"OTEL_SERVICE_NAME=x", false, ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://x", true, ""},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://x", true, ""},
		{"OTEL_TRACES_EXPORTER=otlp", true, ""},
		{"OTEL_TRACES_EXPORTER=none OTEL_EXPORTER_OTLP_ENDPOINT=http://x", false, ""},
		{"OTEL_SDK_DISABLED=TRUE OTEL_EXPORTER_OTLP_ENDPOINT=http://x", false, ""},
		{"OTEL_SDK_DISABLED=false OTEL_EXPORTER_OTLP_ENDPOINT=http://x", true, ""},
		{"OTEL_TRACES_EXPORTER=console", false, "OTEL_TRACES_EXPORTER=console: this program has otlp and none"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://x OTEL_EXPORTER_OTLP_PROTOCOL=grpc", false, "by http/protobuf, which collectors take on port 4318"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://x OTEL_EXPORTER_OTLP_PROTOCOL=grpc OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf", true, ""},
	}
	all := []string{"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
		"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"}
	for _, test := range tests {
		for _, name := range all {
			t.Setenv(name, "")
		}
		for _, setting := range strings.Fields(test.env) {
			name, value, _ := strings.Cut(setting, "=")
			t.Setenv(name, value)
		}
		wanted, err := TracesWanted()
		if wanted != test.wanted || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %v, %v; want %v, %q", test.env, wanted, err, test.wanted, test.err)
		}
	}
}

func TestPropagators(t *testing.T) {
	for list, want := range map[string]struct{ fields, err string }{
		"":                     {"baggage traceparent tracestate", ""},
		"tracecontext":         {"traceparent tracestate", ""},
		" baggage":             {"baggage", ""},
		"none":                 {"", ""},
		"tracecontext,b3,xray": {"traceparent tracestate", "OTEL_PROPAGATORS has b3, xray: this program has tracecontext, baggage and none"},
	} {
		p, err := propagators(list)
		got := map[string]bool{}
		for _, field := range p.Fields() {
			got[field] = true
		}
		if len(got) != len(strings.Fields(want.fields)) || (err == nil) != (want.err == "") || err != nil && err.Error() != want.err {
			t.Errorf("%q: %v, %v; want %s, %q", list, got, err, want.fields, want.err)
		}
	}
}

type flaky struct {
	nothing
	err error
}

func (f *flaky) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return f.err }

func TestAnExporterThatFailsIsToldOfOnce(t *testing.T) {
	var text bytes.Buffer
	under := &flaky{err: errors.New("connection refused")}
	e := &exporter{SpanExporter: under, log: slog.New(slog.NewTextHandler(&text, nil))}
	spans := tracetest.SpanStubs{{}, {}}.Snapshots()
	for range 5 {
		if err := e.ExportSpans(t.Context(), spans); err != nil {
			t.Errorf("the SDK is told, and logs it again: %v", err)
		}
	}
	if got := text.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "connection refused") {
		t.Errorf("said %q", got)
	}
	under.err = nil
	for range 5 {
		_ = e.ExportSpans(t.Context(), spans)
	}
	if got := text.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "lost=10") {
		t.Errorf("said %q", got)
	}
	if e.exported.Load() != 10 || e.lost.Load() != 10 {
		t.Errorf("exported %d, lost %d; want 10 and 10", e.exported.Load(), e.lost.Load())
	}
}
