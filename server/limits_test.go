package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"example.com/roster/gen/go/apipb"
	"example.com/roster/gen/go/apipb/apipbconnect"
	"example.com/roster/server/rpc/rpctest"
	"example.com/roster/server/service"
)

// service returns a client of p for each protocol.
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

// retryDelay returns the delay in the RetryInfo of an error.
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

// slow returns a procedure that waits until it is released, in place of a slow store.
func slow(entered chan<- context.Context, release <-chan struct{}) rpctest.Route {
	return rpctest.Route{Path: "/test.Slow/Call", Handler: connect.NewUnaryHandlerSimple("/test.Slow/Call",
		func(ctx context.Context, _ *apipb.UserReq) (*apipb.UserReply, error) {
			entered <- ctx
			select {
			case <-release:
				return &apipb.UserReply{}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}, service.HandlerOptions(Config{}.withDefaults().Log))}
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

// A body that comes after the deadline of its call ends the connection as well, over HTTP/1.1. The HTTP server
// takes it for one that the client has left: all later requests on it would be cancelled.
func TestABodyThatComesAfterItsDeadline(t *testing.T) {
	p := start(t, Config{}, nil)
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	const head = "POST /MyService/User HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnect-Timeout-Ms: 1\r\n\r\n"
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	reply, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(reply.Body)
	if err != nil || !strings.Contains(string(text), `"deadline_exceeded"`) {
		t.Errorf("%s %s (%v)", reply.Status, text, err)
	}
	if !reply.Close {
		t.Error("the connection goes on")
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

// Deadlines that a client can send, among them some that client libraries would not send.
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

// The time in which a slow body arrives counts towards the deadline.
func TestASlowBodyIsBoundByTheDeadline(t *testing.T) {
	// The text promises a message of 64 KiB.
	for contentType, piece := range map[string]string{"application/json": " ", "application/grpc-web-text": "AAAB"} {
		for _, http2 := range []bool{false, true} {
			if !http2 && contentType != "application/json" {
				continue // Go's client drops an HTTP/1.1 reply without a body while it still sends
			}
			p := start(t, Config{MaxDeadline: 300 * time.Millisecond, stallTimeout: time.Minute}, nil)
			reader, writer := io.Pipe()
			done := make(chan bool)
			go func() {
				defer close(done)
				for {
					if _, err := writer.Write([]byte(piece)); err != nil {
						return
					}
					time.Sleep(10 * time.Millisecond)
				}
			}()
			response, text := p.post(http2, "/MyService/User", contentType, reader)
			text += response.Header.Get("Grpc-Message")
			if want := "the answer was not ready in 300ms"; !strings.Contains(text, want) ||
				!strings.Contains(text, "deadline_exceeded") && response.Header.Get("Grpc-Status") != "4" {
				t.Errorf("%s, HTTP/2 %v: %s, want %s", contentType, http2, text, want)
			}
			reader.Close()
			<-done
		}
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
		const want = "this server already answers 2 calls, its maximum (--max-concurrent-calls): call again later"
		if connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		} else if got := retryDelay(t, err); got != 100*time.Millisecond {
			t.Errorf("%s: to be tried again in %v, want %v", name, got, 100*time.Millisecond)
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
