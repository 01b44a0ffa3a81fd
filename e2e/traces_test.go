package e2e

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/otelconnect"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"example.com/roster/client"
	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	"example.com/roster/gen/go/apipb"
	"example.com/roster/server"
	"example.com/roster/server/rpc"
	"example.com/roster/server/rpc/rpctest"
	"example.com/roster/server/service"
	"example.com/roster/server/telemetry"
)

// A collection is what a collector of OTLP over HTTP got.
type collection struct {
	url string

	mu       sync.Mutex
	spans    []*otlp.Span
	services map[string]bool
}

// collect starts a collector.
func collect(t *testing.T) *collection {
	t.Helper()
	c := &collection{services: make(map[string]bool)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("the collector got %s, %s", r.URL.Path, r.Header.Get("Content-Type"))
		}
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			unpacked, err := gzip.NewReader(body)
			if err != nil {
				t.Error(err)
				return
			}
			body = unpacked
		}
		data, err := io.ReadAll(body)
		if err != nil {
			t.Error(err)
		}
		var request collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(data, &request); err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range request.GetResourceSpans() {
			for _, attribute := range resource.GetResource().GetAttributes() {
				if attribute.GetKey() == "service.name" || attribute.GetKey() == "deployment.environment" {
					c.services[attribute.GetKey()+"="+attribute.GetValue().GetStringValue()] = true
				}
			}
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// named returns the spans of a name that have come.
func (c *collection) named(name string) (spans []*otlp.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, span := range c.spans {
		if span.GetName() == name {
			spans = append(spans, span)
		}
	}
	return spans
}

// serveTraced is serve with variables in its environment.
func serveTraced(t *testing.T, env ...string) (p *process, address string) {
	t.Helper()
	command := exec.Command(binary, "serve", "--addr", "localhost:0", "--log-format", "json", "--access-log", "all",
		"--sample", "--store", filepath.Join(t.TempDir(), "roster.db"))
	command.Env = append(os.Environ(), env...)
	p = start(t, command)
	return p, p.line(func(line string) string {
		var entry struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving" {
			return entry.Address
		}
		return ""
	})
}

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
)

func TestTraces(t *testing.T) {
	collected := collect(t)
	p, address := serveTraced(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+collected.url, "OTEL_SERVICE_NAME=directory",
		"OTEL_RESOURCE_ATTRIBUTES=deployment.environment=test", "OTEL_TRACES_SAMPLER=parentbased_always_off")
	for flags, body := range map[string]string{"01": `{"userIDs":[1,2]}`, "00": `{"userIDs":[3]}`} {
		got := run(t, exec.Command("curl", "-sS", "--noproxy", "*", "--max-time", "20", "-H", "content-type: application/json",
			"-H", "traceparent: 00-"+callersTrace+"-"+callersSpan+"-"+flags, "-d", body, "http://"+address+"/MyService/User"))
		if got.code != 0 {
			t.Fatal(got.stderr)
		}
	}
	curl(t, "http://"+address+"/MyService/User", `{"userIDs":[4]}`)
	// The batch would leave in five seconds; the end does not wait for that.
	if code := p.stop(terminate); code != 0 {
		t.Errorf("exit %d", code)
	}
	calls, loads, queries := collected.named("MyService/User"), collected.named("cache load"), collected.named("store get")
	if len(calls) != 1 || len(loads) != 1 || len(queries) != 1 || len(collected.spans) != 3 {
		t.Fatalf("%d calls, %d loads, %d queries, %d spans; want one of each: what its caller samples, and nothing else",
			len(calls), len(loads), len(queries), len(collected.spans))
	}
	if id, parent := hex.EncodeToString(calls[0].GetTraceId()), hex.EncodeToString(calls[0].GetParentSpanId()); id != callersTrace || parent != callersSpan {
		t.Errorf("the call is in trace %s beneath %s, want %s beneath %s", id, parent, callersTrace, callersSpan)
	}
	if string(loads[0].GetParentSpanId()) != string(calls[0].GetSpanId()) || string(queries[0].GetParentSpanId()) != string(loads[0].GetSpanId()) {
		t.Error("the query is not beneath the load, or that not beneath the call")
	}
	if calls[0].GetKind() != otlp.Span_SPAN_KIND_SERVER {
		t.Errorf("the call is of kind %v", calls[0].GetKind())
	}
	for _, want := range []string{"service.name=directory", "deployment.environment=test"} {
		if !collected.services[want] {
			t.Errorf("the resource has %v, want %s", collected.services, want)
		}
	}
	if log := p.log(); strings.Count(log, `"trace":"`+callersTrace+`"`) != 2 {
		t.Errorf("the access log does not have the trace twice:\n%s", log)
	}
}

// A collector that is not there, or takes nothing, is said once and costs no
// call anything, the end included.
func TestTracesWithoutACollector(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // it never accepts
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer refusing.Close()
	for name, url := range map[string]string{
		"gone": "http://" + gone.Addr().String(), "silent": "http://" + silent.Addr().String(), "refusing": refusing.URL,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, address := serveTraced(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+url, "OTEL_BSP_SCHEDULE_DELAY=20", "OTEL_EXPORTER_OTLP_TIMEOUT=200", "OTEL_BSP_MAX_QUEUE_SIZE=10")
			told := func() bool { return strings.Contains(p.log(), "traces cannot be exported") }
			eventually(t, "the log tells", func() bool {
				if status := curl(t, "http://"+address+"/MyService/User", `{"userIDs":[1]}`); status != "200" {
					t.Fatalf("a call: %s", status)
				}
				return told()
			})
			for range 20 {
				curl(t, "http://"+address+"/MyService/User", `{"userIDs":[1]}`)
			}
			began := time.Now()
			if code := p.stop(terminate); code != 0 {
				t.Errorf("exit %d", code)
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("the end took %v, want about 5 s at most", took)
			}
			if n := strings.Count(p.log(), "traces cannot be exported"); n != 1 {
				t.Errorf("said %d times:\n%s", n, p.log())
			}
		})
	}
}

// What the environment asks for and is not to be had is said, and the server
// serves.
func TestTracesThatAreNotToBeHad(t *testing.T) {
	for env, want := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317 OTEL_EXPORTER_OTLP_PROTOCOL=grpc": "no traces: OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
		"OTEL_TRACES_EXPORTER=zipkin":                                                                "no traces: OTEL_TRACES_EXPORTER=zipkin",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 OTEL_PROPAGATORS=b3":                      "OTEL_PROPAGATORS has b3",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 OTEL_TRACES_SAMPLER=sometimes":            "unsupported sampler: sometimes",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 OTEL_RESOURCE_ATTRIBUTES=without-a-value": "",
	} {
		p, address := serveTraced(t, strings.Fields(env)...)
		if status := curl(t, "http://"+address+"/MyService/Health", `{}`); status != "200" {
			t.Errorf("%s: a call: %s", env, status)
		}
		if log := p.log(); !strings.Contains(log, want) {
			t.Errorf("%s: want %q in\n%s", env, want, log)
		}
		for line := range strings.Lines(p.log()) {
			if !json.Valid([]byte(line)) {
				t.Errorf("%s: not JSON: %s", env, line)
			}
		}
	}
}

// Python calls a Go program on Roster's port, and that calls a Python server:
// all of it is one trace.
func TestATraceFromPythonThroughGoToPython(t *testing.T) {
	python := filepath.Join(need(t, "ROSTER_E2E_NEWEST"), "bin", "python")
	script := filepath.Join(root, "e2e", "python", "peer.py")
	env := []string{"PYTHONPATH=" + filepath.Join(root, "gen", "python"), "PATH=" + os.Getenv("PATH")}
	upstream := exec.Command(python, script, "serve")
	upstream.Env = env
	peer := start(t, upstream)
	theirs := peer.line(findAddress)

	collected := collect(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collected.url)
	log := slog.New(slog.DiscardHandler)
	traces, err := telemetry.NewTraces(t.Context(), "test", log)
	if err != nil {
		t.Fatal(err)
	}
	carry, err := otelconnect.NewInterceptor(otelconnect.WithTracerProvider(traces.Provider()), otelconnect.WithPropagator(traces.Propagator()), otelconnect.WithoutMetrics())
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(theirs, client.Config{Interceptors: []connect.Interceptor{carry}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	relay := func(ctx context.Context, request *apipb.UserReq) (*apipb.UserReply, error) {
		users, err := c.Users(ctx, request.GetUserIDs())
		if err != nil {
			return nil, err
		}
		return &apipb.UserReply{Data: []*apipb.User{{Name: users[0].Name}}}, nil
	}
	ours := servePort(t, traces, rpctest.Route{Path: "/relay.v1.Relay/User", Handler: connect.NewUnaryHandlerSimple("/relay.v1.Relay/User", relay, service.HandlerOptions(log))})

	caller := exec.Command(python, script, "call", ours, "/relay.v1.Relay/User", "00-"+callersTrace+"-"+callersSpan+"-01")
	caller.Env = env
	if got := run(t, caller); got.code != 0 || got.stdout != "user 1\n" {
		t.Fatalf("exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
	received := peer.line(func(line string) string {
		parent, _ := strings.CutPrefix(line, "traceparent ")
		if parent == line {
			return ""
		}
		return parent
	})
	if err := traces.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	serverSpans, clientSpans := collected.named("relay.v1.Relay/User"), collected.named("MyService/User")
	if len(serverSpans) != 1 || len(clientSpans) != 1 {
		t.Fatalf("%d server spans and %d client spans, want one of each", len(serverSpans), len(clientSpans))
	}
	want := fmt.Sprintf("00-%s-%x-01", callersTrace, clientSpans[0].GetSpanId())
	if received != want {
		t.Errorf("the Python server got %s, want %s", received, want)
	}
	if string(clientSpans[0].GetParentSpanId()) != string(serverSpans[0].GetSpanId()) || hex.EncodeToString(serverSpans[0].GetParentSpanId()) != callersSpan {
		t.Error("the spans are not beneath each other")
	}
}

// servePort serves more routes on a port of Roster's, in this process.
func servePort(t *testing.T, traces *telemetry.Traces, more ...rpctest.Route) (address string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	store, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "roster.db"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := directory.New(ctx, store, directory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(server.Config{Directory: dir, Observers: []rpc.Observer{traces}, Mounts: rpctest.Mounts(t, more...)})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		dir.Close()
		store.Close()
	})
	return listener.Addr().String()
}
