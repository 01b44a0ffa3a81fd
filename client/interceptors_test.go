package client_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/otelconnect"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"example.com/roster/gen/go/apipb"
	"example.com/roster/gen/go/apipb/apipbconnect"
)

// The trace of the caller's context is sent with every attempt over every protocol, and with the
// calls of Endpoint.
func TestInterceptorsCarryTheTrace(t *testing.T) {
	id, _ := trace.TraceIDFromHex("0af7651916cd43dd8448eb211c80319c")
	span, _ := trace.SpanIDFromHex("b7ad6b7169203331")
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: trace.FlagsSampled})
	carry, err := otelconnect.NewInterceptor(otelconnect.WithPropagator(propagation.TraceContext{}), otelconnect.WithoutMetrics())
	if err != nil {
		t.Fatal(err)
	}
	for _, cfg := range configs() {
		var carried, attempts atomic.Int32
		cfg.Interceptors = []connect.Interceptor{carry, connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
			return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
				attempts.Add(1)
				return next(ctx, r)
			}
		})}
		var calls atomic.Int32
		server := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Traceparent") == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" {
				carried.Add(1)
			}
			brokenOnce(&calls, handler(service{})).ServeHTTP(w, r)
		}))
		ctx := trace.ContextWithSpanContext(within(t, 5*time.Second), parent)
		c := dial(t, server.url, cfg)
		if _, err := c.Users(ctx, []int32{1}); err != nil {
			t.Fatal(err)
		}
		if _, err := apipbconnect.NewMyServiceClient(c.Endpoint()).User(ctx, &apipb.UserReq{UserIDs: []int32{2}}); err != nil {
			t.Fatal(err)
		}
		if carried.Load() != 3 || attempts.Load() != 3 {
			t.Errorf("%s: the trace came %d times in %d attempts, want 3 of 3", name(cfg), carried.Load(), attempts.Load())
		}
	}
}
