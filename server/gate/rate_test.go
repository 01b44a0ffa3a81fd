package gate

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/server/drain"
	"example.com/roster/server/rpc"
)

// An authenticated caller has a rate of its own, shared with no other caller of its address.
func TestRateLimitByIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := newRate(RateConfig{PerSecond: 1, Burst: 2})
		answered := 0
		serve := func(identity, address string, code connect.Code) int {
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if rpc.From(r.Context()).Identity = identity; code != 0 {
					limits.admitUnauthenticated(w, r)
					return
				}
				limits.wrap(nil, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answered++ })).ServeHTTP(w, r)
			})
			r := httptest.NewRequestWithContext(t.Context(), "POST", "/MyService/User", nil)
			r.RemoteAddr = address
			c, r := rpc.Of(r)
			defer c.End()
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			return w.Code
		}
		expect := func(what string, got, want int) {
			t.Helper()
			if got != want {
				t.Errorf("%s: %d, want %d", what, got, want)
			}
		}
		const here, there = "192.0.2.1:1000", "192.0.2.2:1000"
		expect("a", serve("a", here, 0), 200)
		expect("a again", serve("a", here, 0), 200)
		expect("a too often", serve("a", there, 0), 429)
		expect("b", serve("b", here, 0), 200)
		expect("nobody", serve("", here, 0), 200)
		expect("nobody, from another port", serve("", "192.0.2.1:2000", 0), 200)
		expect("nobody too often", serve("", here, 0), 429)
		expect("nobody, as IPv6 has it", serve("", "[::ffff:192.0.2.1]:3000", 0), 429)
		expect("nobody elsewhere", serve("", there, 0), 200)
		expect("one of a network", serve("", "[2001:db8::1]:1000", 0), 200)
		expect("another of it", serve("", "[2001:db8::ffff:2]:1000", 0), 200)
		expect("a third of it", serve("", "[2001:db8::3]:1000", 0), 429)
		expect("one of another network", serve("", "[2001:db8:0:1::1]:1000", 0), 200)
		time.Sleep(3 * time.Second)
		expect("a later", serve("a", here, 0), 200)

		// Guessed tokens do not use up the rate of callers with a valid one.
		for range 2 {
			expect("a bad token", serve("", "198.51.100.1:1000", connect.CodeUnauthenticated), 200)
		}
		before := answered
		expect("bad tokens too often", serve("", "198.51.100.1:1000", connect.CodeUnauthenticated), 429)
		expect("a good token elsewhere", serve("c", here, 0), 200)
		expect("a good token at the same address", serve("d", "198.51.100.1:1000", 0), 200)
		if answered != before+2 {
			t.Errorf("%d calls came through, want 2", answered-before)
		}
	})
}

// A refusal is delayed, unless too many are waiting.
func TestARefusalWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := newRate(RateConfig{PerSecond: 1})
		refuse := func(ctx context.Context) time.Duration {
			began := time.Now()
			limits.refuse(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "POST", "/", nil), limits.why)
			return time.Since(began)
		}
		for _, held := range []int64{0, rateHeld - 1} {
			limits.held.Store(held)
			about := rateHold + time.Duration(held)*rateHoldEach
			if got := refuse(t.Context()); got < about/2 || got > 2*about {
				t.Errorf("a refusal took %v beside %d others, want about %v", got, held, about)
			}
		}
		limits.held.Store(0)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if got := refuse(gone); got != 0 {
			t.Errorf("with the caller gone it took %v", got)
		}
		limits.held.Store(rateHeld)
		if got := refuse(t.Context()); got != 0 {
			t.Errorf("with too many waiting it took %v", got)
		}
		if got := limits.held.Load(); got != rateHeld {
			t.Errorf("%d are counted as waiting, want %d", got, rateHeld)
		}
	})
}

// The cost of the limits for a call that is within them, complete as it comes from package h2.
func BenchmarkLimits(b *testing.B) {
	for _, limited := range []bool{false, true} {
		config := Config{MaxConcurrentCalls: 10_000, MaxDeadline: time.Minute, StallTimeout: time.Minute, Drain: drain.New(), Log: slog.New(slog.DiscardHandler)}
		if limited {
			config.Rate = RateConfig{PerSecond: 1e9, Burst: 1 << 30}
		}
		b.Run(fmt.Sprintf("rate limit %v", limited), func(b *testing.B) {
			nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
			handler := New(config).Wrap(&rpc.Method{Policy: rpc.Policy{Role: rpc.Reader}, Handler: nothing})
			r := httptest.NewRequest("POST", "/MyService/User", nil)
			r.Header.Set("Content-Type", "application/grpc")
			r.ProtoMajor, r.Body = 2, &wholeBody{size: 10, err: io.EOF}
			c, r := rpc.Of(r)
			defer c.End()
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				handler.ServeHTTP(w, r)
			}
		})
	}
}
