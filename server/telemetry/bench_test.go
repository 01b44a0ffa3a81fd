package telemetry

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/otelconnect"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/protobuf/proto"

	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	"example.com/roster/directory/storetest"
	"example.com/roster/gen/go/apipb"
	"example.com/roster/gen/go/apipb/apipbconnect"
	"example.com/roster/server"
	"example.com/roster/server/rpc"
	"example.com/roster/server/service"
)

// BenchmarkCall measures the handler chain of a port, without the engine, for a gRPC call with two
// ids that are in the cache. The first case has no observer; otelconnect is a comparison for our
// traces.
func BenchmarkCall(b *testing.B) {
	quiet := slog.New(slog.NewJSONHandler(io.Discard, nil))
	accessLog := func() rpc.Observer {
		return NewAccessLog(quiet, AccessLogConfig{Successes: 10, Errors: 100, Slow: 1e9})
	}
	traces := func(ratio float64) *Traces {
		return newTraces(provider(ratio), propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	}
	const sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	const unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	for _, bench := range []struct {
		name      string
		observers []rpc.Observer
		parent    string
	}{
		{"bare", nil, ""},
		{"access log", []rpc.Observer{accessLog()}, ""},
		{"metrics", []rpc.Observer{NewMetrics()}, ""},
		{"traces, none sampled", []rpc.Observer{traces(0)}, ""},
		{"traces, 1% sampled", []rpc.Observer{traces(0.01)}, ""},
		{"traces, all sampled", []rpc.Observer{traces(1)}, ""},
		{"traces, parent not sampled", []rpc.Observer{traces(1)}, unsampled},
		{"traces, parent sampled", []rpc.Observer{traces(0)}, sampled},
		{"all, 1% sampled", []rpc.Observer{traces(0.01), accessLog(), NewMetrics()}, ""},
	} {
		b.Run(bench.name, func(b *testing.B) {
			dir := benchDirectory(b)
			benchmark(b, NewServer(b, server.Config{Directory: dir, Observers: bench.observers}).Handler(), bench.parent)
		})
	}
	for name, ratio := range map[string]float64{"otelconnect, none sampled": 0, "otelconnect, all sampled": 1} {
		b.Run(name, func(b *testing.B) {
			interceptor, err := otelconnect.NewInterceptor(otelconnect.WithTracerProvider(provider(ratio)), otelconnect.WithoutMetrics(),
				otelconnect.WithTrustRemote(), otelconnect.WithPropagator(propagation.TraceContext{}))
			if err != nil {
				b.Fatal(err)
			}
			benchmark(b, connectOnly(b, connect.WithInterceptors(interceptor)), "")
		})
	}
	b.Run("otelconnect, left out", func(b *testing.B) { benchmark(b, connectOnly(b), "") })
}

// connectOnly is the handler of a service by itself.
func connectOnly(b *testing.B, options ...connect.HandlerOption) http.Handler {
	_, handler := apipbconnect.NewMyServiceHandler(fixed{}, append(options, service.HandlerOptions(slog.New(slog.DiscardHandler)))...)
	return handler
}

type fixed struct {
	apipbconnect.UnimplementedMyServiceHandler
}

// User implements apipbconnect.MyServiceHandler.
func (fixed) User(context.Context, *apipb.UserReq) (*apipb.UserReply, error) {
	return &apipb.UserReply{Message: "success"}, nil
}

func provider(ratio float64) *sdktrace.TracerProvider {
	return sdktrace.NewTracerProvider(sdktrace.WithBatcher(nothing{}), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))))
}

// nothing is an exporter of spans that discards them.
type nothing struct{}

func (nothing) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (nothing) Shutdown(context.Context) error                             { return nil }

func benchDirectory(b *testing.B) *directory.Directory {
	ctx := context.Background()
	store, err := sqlite.Open(ctx, filepath.Join(b.TempDir(), "roster.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	if err := storetest.Put(ctx, store, []directory.User{
		{ID: 1, Name: "Leila Dubois", Age: 37, Email: "leila.dubois@example.com"},
		{ID: 2, Name: "Ruth Chen", Age: 43, Email: "ruth.chen@example.com"},
	}...); err != nil {
		b.Fatal(err)
	}
	dir, err := directory.New(ctx, store, directory.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(dir.Close)
	return dir
}

func benchmark(b *testing.B, handler http.Handler, parent string) {
	message, err := proto.Marshal(&apipb.UserReq{UserIDs: []int32{1, 2}})
	if err != nil {
		b.Fatal(err)
	}
	body := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	reader := bytes.NewReader(body)
	r, err := http.NewRequest("POST", "http://x/MyService/User", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.ProtoMajor, r.Proto = 2, "HTTP/2.0"
	r.RemoteAddr = "192.0.2.1:1234"
	r.ContentLength = -1
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Te", "trailers")
	if parent != "" {
		r.Header.Set("Traceparent", parent)
	}
	w := &writer{header: make(http.Header)}
	whole := &wholeBody{Reader: reader, size: int64(len(body))}
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		reader.Reset(body)
		r.Body = whole
		clear(w.header)
		w.written = 0
		handler.ServeHTTP(w, r)
		if w.header["Trailer:Grpc-Status"][0] != "0" || w.written == 0 {
			b.Fatalf("%v", w.header)
		}
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
}

// cpu returns the CPU time that the process has used, garbage collection included. Unlike elapsed
// time it does not depend on how busy the machine is.
func cpu(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// wholeBody is a body as package h2 has it when all of it has come.
type wholeBody struct {
	*bytes.Reader
	size int64
}

func (*wholeBody) Close() error              { return nil }
func (b *wholeBody) Complete() (int64, bool) { return b.size, true }

// writer is a ResponseWriter that sends nothing.
type writer struct {
	header  http.Header
	written int
}

func (w *writer) Header() http.Header { return w.header }
func (w *writer) WriteHeader(int)     {}
func (w *writer) Flush()              {}
func (w *writer) Write(p []byte) (int, error) {
	w.written += len(p)
	return len(p), nil
}
