package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"example.com/roster/gen/go/apipb"
	"example.com/roster/gen/go/apipb/apipbconnect"
	"example.com/roster/server/api"
	"example.com/roster/server/call"
)

// service is a client of p in each protocol.
func (p *port) service(options ...connect.ClientOption) apipbconnect.MyServiceClient {
	return apipbconnect.NewMyServiceClient(client(p.t, true), "http://"+p.address, options...)
}

func protocols() map[string][]connect.ClientOption {
	return map[string][]connect.ClientOption{
		"gRPC":     {connect.WithGRPC()},
		"gRPC-Web": {connect.WithGRPCWeb()},
		"Connect":  {connect.WithProtoJSON()},
	}
}

// retryDelay is what an error says of when to call again.
func retryDelay(t *testing.T, err error) time.Duration {
	t.Helper()
	for _, detail := range errorDetails(err) {
		if value, failed := detail.Value(); failed == nil {
			if info, ok := value.(*errdetails.RetryInfo); ok {
				return info.GetRetryDelay().AsDuration()
			}
		}
	}
	t.Errorf("no RetryInfo in %v", err)
	return 0
}

func errorDetails(err error) []*connect.ErrorDetail {
	if wire, ok := err.(*connect.Error); ok {
		return wire.Details()
	}
	return nil
}

// A procedure that waits, and stands in for a slow store.
func slow(entered chan<- context.Context, release <-chan struct{}) api.Route {
	return api.Route{Path: "/test.Slow/Call", Handler: connect.NewUnaryHandlerSimple("/test.Slow/Call",
		func(ctx context.Context, _ *apipb.UserReq) (*apipb.UserReply, error) {
			entered <- ctx
			select {
			case <-release:
				return &apipb.UserReply{}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}, api.HandlerOptions(Config{}.withDefaults().Log))}
}

func startSlow(t *testing.T, config Config, entered chan<- context.Context, release <-chan struct{}) (*port, func(context.Context, ...connect.ClientOption) error) {
	t.Helper()
	p := start(t, config, nil, slow(entered, release))
	return p, func(ctx context.Context, options ...connect.ClientOption) error {
		_, err := connect.NewClient[apipb.UserReq, apipb.UserReply](client(t, true), "http://"+p.address+"/test.Slow/Call", options...).
			CallUnary(ctx, connect.NewRequest(&apipb.UserReq{}))
		return err
	}
}

func TestTheServersDeadlineHolds(t *testing.T) {
	entered := make(chan context.Context, 1)
	_, call := startSlow(t, Config{MaxDeadline: 200 * time.Millisecond}, entered, nil)
	for name, options := range protocols() {
		for _, timeout := range []time.Duration{0, time.Hour, 876_000 * time.Hour} {
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if timeout > 0 {
				ctx, cancel = context.WithTimeout(ctx, timeout)
			}
			err := call(ctx, options...)
			cancel()
			<-entered
			const want = "the answer was not ready in 200ms, the longest that this server lets a call take (--max-deadline)"
			if connect.CodeOf(err) != connect.CodeDeadlineExceeded || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, the client's deadline %v: %v, want %s", name, timeout, err, want)
			}
		}
	}
}

func TestTheClientsEarlierDeadlineHolds(t *testing.T) {
	entered := make(chan context.Context, 1)
	_, call := startSlow(t, Config{MaxDeadline: time.Hour}, entered, nil)
	for name, options := range protocols() {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := call(ctx, options...)
		cancel()
		if deadline, ok := (<-entered).Deadline(); !ok || time.Until(deadline) > time.Second {
			t.Errorf("%s: the handler's deadline is %v, %v", name, deadline, ok)
		}
		if connect.CodeOf(err) != connect.CodeDeadlineExceeded || strings.Contains(err.Error(), "--max-deadline") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What clients send as a deadline, and would not let their own library send.
func TestOddDeadlines(t *testing.T) {
	p := start(t, Config{}, nil)
	one := string(marshal(t, 1))
	for _, test := range []struct {
		contentType, header, value string
		code                       connect.Code // 0 is OK
	}{
		{"application/grpc", "Grpc-Timeout", "0n", connect.CodeDeadlineExceeded},
		{"application/grpc", "Grpc-Timeout", "-1S", connect.CodeInvalidArgument},
		{"application/grpc", "Grpc-Timeout", "876000H", 0}, // a century
		{"application/grpc", "Grpc-Timeout", "99999999H", 0},
		{"application/grpc", "Grpc-Timeout", "100000000H", connect.CodeInvalidArgument},
		{"application/grpc", "Grpc-Timeout", "1", connect.CodeInvalidArgument},
		{"application/grpc", "Grpc-Timeout", "S", connect.CodeInvalidArgument},
		{"application/grpc", "Grpc-Timeout", "1.5S", connect.CodeInvalidArgument},
		{"application/grpc-web", "Grpc-Timeout", "0n", connect.CodeDeadlineExceeded},
		{"application/grpc-web", "Grpc-Timeout", "-1S", connect.CodeInvalidArgument},
		{"application/proto", "Connect-Timeout-Ms", "0", connect.CodeDeadlineExceeded},
		{"application/proto", "Connect-Timeout-Ms", "-1", connect.CodeInvalidArgument},
		{"application/proto", "Connect-Timeout-Ms", "9999999999", 0}, // four months, the most it can say
		{"application/proto", "Connect-Timeout-Ms", "3153600000000", connect.CodeInvalidArgument},
		{"application/proto", "Connect-Timeout-Ms", "soon", connect.CodeInvalidArgument},
	} {
		body := one
		if strings.Contains(test.contentType, "grpc") {
			body = string(envelope(0, []byte(one)))
		}
		response, text := p.post(true, "/MyService/User", test.contentType, strings.NewReader(body), test.header, test.value, "Te", "trailers")
		var ok bool
		switch {
		case strings.Contains(test.contentType, "grpc"):
			all := fmt.Sprint(response.Header) + strings.ToLower(text)
			ok = strings.Contains(all, fmt.Sprintf("Grpc-Status:[%d]", test.code)) || strings.Contains(all, fmt.Sprintf("grpc-status: %d", test.code))
		case test.code == 0:
			ok = response.StatusCode == 200
		default:
			ok = strings.Contains(text, fmt.Sprintf("%q", test.code))
		}
		if !ok {
			t.Errorf("%s %s: %s: %d %v %q, want %v", test.contentType, test.header, test.value, response.StatusCode, response.Header, text, test.code)
		}
	}
}

// A body that comes in drops is part of the call.
func TestASlowBodyIsBoundByTheDeadline(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		p := start(t, Config{MaxDeadline: 300 * time.Millisecond, stall: time.Minute}, nil)
		reader, writer := io.Pipe()
		done := make(chan bool)
		go func() {
			defer close(done)
			for {
				if _, err := writer.Write([]byte(" ")); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		_, text := p.post(http2, "/MyService/User", "application/json", reader)
		if want := "the answer was not ready in 300ms"; !strings.Contains(text, want) || !strings.Contains(text, "deadline_exceeded") {
			t.Errorf("HTTP/2 %v: %s, want %s", http2, text, want)
		}
		reader.Close()
		<-done
	}
}

func TestTooManyCallsAtATime(t *testing.T) {
	entered, release := make(chan context.Context, 2), make(chan struct{})
	p, call := startSlow(t, Config{MaxConcurrentCalls: 2}, entered, release)
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() {
			if err := call(t.Context(), connect.WithGRPC()); err != nil {
				t.Error(err)
			}
		})
		<-entered
	}
	for name, options := range protocols() {
		_, err := p.service(options...).User(t.Context(), &apipb.UserReq{UserIDs: []int32{1}})
		const want = "this server answers 2 calls, the most that it may at a time (--max-concurrent-calls): call again later"
		if connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		} else if got := retryDelay(t, err); got != shedRetry {
			t.Errorf("%s: to be tried again in %v, want %v", name, got, shedRetry)
		}
		if response, text := p.post(true, "/grpc.health.v1.Health/Check", "application/json", strings.NewReader("{}")); !strings.Contains(text, "SERVING") {
			t.Errorf("health: %d %s", response.StatusCode, text)
		}
		if response, text := p.post(true, "/MyService/Health", "application/json", strings.NewReader("{}")); response.StatusCode != 200 {
			t.Errorf("Health: %d %s", response.StatusCode, text)
		}
	}
	close(release)
	running.Wait()
	if _, err := p.service().User(t.Context(), &apipb.UserReq{UserIDs: []int32{1}}); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

func TestRateLimitByAddress(t *testing.T) {
	p := start(t, Config{RateLimit: 0.01, RateBurst: 3}, nil)
	for name, options := range protocols() {
		service := p.service(options...)
		for n := 0; ; n++ {
			_, err := service.User(t.Context(), &apipb.UserReq{UserIDs: []int32{1}})
			if err == nil && n < 3 {
				continue
			}
			const want = "more than 0.01 calls a second, the most that one token, certificate or address may make (--rate-limit, --rate-burst): slow down"
			if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, call %d: %v, want %s", name, n, err, want)
			} else if got := retryDelay(t, err); got != 100*time.Second {
				t.Errorf("%s: to be tried again in %v, want 100s", name, got)
			}
			break
		}
	}
}

// Who has an identity has a rate of their own, whoever is at the same address.
func TestRateLimitByIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := Config{RateLimit: 1, RateBurst: 2}
		limits := newRates(config, newRefuser())
		answered := 0
		serve := func(identity, address string, code connect.Code) int {
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if call.From(r.Context()).Identity = identity; code != 0 {
					limits.admitStranger(w, r)
					return
				}
				limits.known(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answered++ })).ServeHTTP(w, r)
			})
			r := httptest.NewRequestWithContext(t.Context(), "POST", "/MyService/User", nil)
			r.RemoteAddr = address
			c, r := call.Of(r)
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

		// Guesses at tokens do no harm to those who have one.
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

// A refusal waits, unless too many do.
func TestARefusalWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := newRates(Config{RateLimit: 1}, newRefuser())
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

// What the limits cost a call that is within them.
func BenchmarkLimits(b *testing.B) {
	for _, limited := range []bool{false, true} {
		config := Config{}.withDefaults()
		if limited {
			config.RateLimit, config.RateBurst = 1e9, 1<<30
		}
		b.Run(fmt.Sprintf("rate limit %v", limited), func(b *testing.B) {
			refuser := newRefuser()
			rates := newRates(config, refuser)
			handler := http.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			handler = capped(api.Route{}, config.MaxDeadline, handler)
			handler = newShedder(config, refuser).shed(api.Route{}, handler)
			handler = rates.known(handler)
			r := httptest.NewRequest("POST", "/MyService/User", nil)
			c, r := call.Of(r)
			defer c.End()
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				handler.ServeHTTP(w, r)
			}
		})
	}
}
