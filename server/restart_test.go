package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/server/drain"
	"example.com/roster/server/rpc"
	"example.com/roster/server/rpc/rpctest"
)

// keptAlive is an HTTP/1.1 connection of a client that uses it again.
type keptAlive struct {
	t *testing.T
	net.Conn
	replies *bufio.Reader
}

func (p *port) dial() *keptAlive {
	p.t.Helper()
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &keptAlive{p.t, conn, bufio.NewReader(conn)}
}

// call makes a call, and reports whether the server closes the connection after it.
func (c *keptAlive) call() (closing bool) {
	c.t.Helper()
	const message = `{"userIDs":[1]}`
	fmt.Fprintf(c, "POST /MyService/User HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(message), message)
	response, err := http.ReadResponse(c.replies, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || !strings.Contains(string(body), "Ann") {
		c.t.Errorf("%d %s %v", response.StatusCode, body, err)
	}
	return response.Close
}

// stopping stops the port, and returns once it accepts no more connections.
func (p *port) stopping() (stopped chan error) {
	p.t.Helper()
	stopped = make(chan error, 1)
	go func() { stopped <- p.stop() }()
	for {
		conn, err := net.Dial("tcp", p.address)
		if err != nil {
			return stopped
		}
		conn.Close()
		time.Sleep(time.Millisecond)
	}
}

func TestAnHTTP1ConnectionIsClosedWithAReply(t *testing.T) {
	p := start(t, Config{}, nil)
	used, unused, idle := p.dial(), p.dial(), p.dial()
	if used.call() || idle.call() {
		t.Error("a connection was closed before there was a drain")
	}
	began := time.Now()
	stopped := p.stopping()
	for name, c := range map[string]*keptAlive{"used before": used, "not used before": unused} {
		if !c.call() {
			t.Errorf("%s: it stays open, but the server ends", name)
		}
		if _, err := c.replies.ReadByte(); err != io.EOF {
			t.Errorf("%s: %v after the reply, want the end", name, err)
		}
	}
	if _, err := idle.replies.ReadByte(); err != io.EOF {
		t.Errorf("the idle one: %v, want the end", err)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("the idle one was closed after %v, sooner than %v", took, time.Second)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// A drain waits neither for HTTP/2 connections nor for closed ones.
func TestHTTP2ConnectionsNeedNoParting(t *testing.T) {
	certificate, _ := credentials(t)
	certificates := []tls.Certificate{certificate}
	for _, test := range []struct {
		name   string
		config Config
	}{
		{"plain", Config{}},
		{"plain, net/http's engine", Config{StandardHTTP2: true}},
		{"TLS", Config{TLS: &tls.Config{Certificates: certificates}}},
		{"TLS, net/http's engine", Config{StandardHTTP2: true, TLS: &tls.Config{Certificates: certificates}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := start(t, test.config, nil)
			url, caller := "http://"+p.address, client(t, true)
			if test.config.TLS != nil {
				url, caller = "https://"+p.address, tlsClient(t, true, &tls.Config{InsecureSkipVerify: true})
			}
			gone := p.dial()
			if test.config.TLS == nil {
				gone.call()
			}
			gone.Close()
			response, err := caller.Post(url+"/MyService/User", "application/json", strings.NewReader(`{"userIDs":[1]}`))
			if err != nil || response.ProtoMajor != 2 {
				t.Fatal(response, err)
			}
			defer response.Body.Close()
			for deadline := time.Now().Add(20 * time.Second); p.server.http1Drain.Open() != 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("a drain would wait for %d connections, want none", p.server.http1Drain.Open())
				}
			}
		})
	}
}

func TestDrainDelayServesOn(t *testing.T) {
	p := start(t, Config{DrainDelay: 300 * time.Millisecond}, nil)
	state := p.server.Drain()
	stopped := make(chan error, 1)
	began := time.Now()
	go func() { stopped <- p.stop() }()
	<-state.Begun()
	if p.dial().call() {
		t.Error("a connection was closed during the delay")
	}
	select {
	case <-state.Closing():
		if took := time.Since(began); took < 300*time.Millisecond {
			t.Errorf("streams were ended after %v", took)
		}
	default:
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	<-state.Closing()
}

// A stream ends when the port closes, with a code that says to call again.
func TestStreamsAreToldToReconnect(t *testing.T) {
	for _, standard := range []bool{false, true} {
		var p *port
		entered := make(chan bool, 2)
		echo := connect.NewBidiStreamHandler("/test.Streams/Echo",
			func(ctx context.Context, stream *connect.BidiStream[[]byte, []byte]) error {
				entered <- true
				_, err := stream.Receive()
				return err
			}, connect.WithCodec(rawCodec{}))
		watch := connect.NewServerStreamHandler("/test.Streams/Watch",
			func(ctx context.Context, _ *connect.Request[[]byte], _ *connect.ServerStream[[]byte]) error {
				entered <- true
				select {
				case <-p.server.Drain().Closing():
					return drain.Reconnect()
				case <-ctx.Done():
					return ctx.Err()
				}
			}, connect.WithCodec(rawCodec{}))
		p = start(t, Config{StandardHTTP2: standard}, nil,
			rpctest.Route{Path: "/test.Streams/Echo", Handler: echo, ClientStreams: true, ServerStreams: true, Policy: rpc.Policy{MaxQuiet: time.Minute}},
			rpctest.Route{Path: "/test.Streams/Watch", Handler: watch, ServerStreams: true})
		codes := make(chan error, 2)
		go func() {
			stream := connect.NewClient[[]byte, []byte](client(t, true), "http://"+p.address+"/test.Streams/Echo",
				connect.WithGRPC(), connect.WithCodec(rawCodec{})).CallBidiStream(t.Context())
			stream.Send(nil)
			_, err := stream.Receive()
			codes <- err
		}()
		go func() {
			stream, err := connect.NewClient[[]byte, []byte](client(t, true), "http://"+p.address+"/test.Streams/Watch",
				connect.WithGRPC(), connect.WithCodec(rawCodec{})).CallServerStream(t.Context(), connect.NewRequest(new([]byte)))
			if err == nil {
				stream.Receive()
				err = stream.Err()
			}
			codes <- err
		}()
		<-entered
		<-entered
		if err := p.stop(); err != nil {
			t.Errorf("the drain: %v", err)
		}
		for range 2 {
			if err := <-codes; connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "this server is being restarted: call again") {
				t.Errorf("engine std %v: %v", standard, err)
			}
		}
	}
}

// A stream may be quiet for as long as its policy allows, from one message to the next.
func TestAQuietStreamIsEnded(t *testing.T) {
	const maxQuiet = 300 * time.Millisecond
	for _, standard := range []bool{false, true} {
		var received atomic.Int32
		count := connect.NewBidiStreamHandler("/test.Streams/Count",
			func(_ context.Context, stream *connect.BidiStream[[]byte, []byte]) error {
				for {
					if _, err := stream.Receive(); err != nil {
						return err
					}
					received.Add(1)
				}
			}, connect.WithCodec(rawCodec{}))
		p := start(t, Config{StandardHTTP2: standard}, nil,
			rpctest.Route{Path: "/test.Streams/Count", Handler: count, ClientStreams: true, ServerStreams: true, Policy: rpc.Policy{MaxQuiet: maxQuiet}})
		stream := connect.NewClient[[]byte, []byte](client(t, true), "http://"+p.address+"/test.Streams/Count",
			connect.WithGRPC(), connect.WithCodec(rawCodec{})).CallBidiStream(t.Context())
		for range 5 {
			if err := stream.Send(&[]byte{'x'}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(maxQuiet / 3)
		}
		_, err := stream.Receive()
		if connect.CodeOf(err) != connect.CodeDeadlineExceeded || !strings.Contains(err.Error(), "no message for 300ms: call again") || received.Load() != 5 {
			t.Errorf("engine std %v: %v after %d messages", standard, err, received.Load())
		}
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	}
}

// How long a stream may be quiet counts until all has arrived. What the method does then may take longer, also
// over HTTP/1.1, whose server reads on to notice that the client leaves.
func TestAMethodMayWorkLongAfterTheLastMessage(t *testing.T) {
	const maxQuiet = 100 * time.Millisecond
	work := connect.NewClientStreamHandler("/test.Streams/Work",
		func(ctx context.Context, stream *connect.ClientStream[[]byte]) (*connect.Response[[]byte], error) {
			for stream.Receive() {
			}
			if err := stream.Err(); err != nil {
				return nil, err
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(4 * maxQuiet):
				return connect.NewResponse(&[]byte{'y'}), nil
			}
		}, connect.WithCodec(rawCodec{}))
	p := start(t, Config{}, nil,
		rpctest.Route{Path: "/test.Streams/Work", Handler: work, ClientStreams: true, Policy: rpc.Policy{MaxQuiet: maxQuiet, MaxTime: time.Minute}})
	for _, http2 := range []bool{true, false} {
		c := connect.NewClient[[]byte, []byte](client(t, http2), "http://"+p.address+"/test.Streams/Work", connect.WithGRPCWeb(), connect.WithCodec(rawCodec{}))
		for range 2 { // on the same connection
			stream := c.CallClientStream(t.Context())
			if err := stream.Send(&[]byte{'x'}); err != nil {
				t.Fatal(err)
			}
			if _, err := stream.CloseAndReceive(); err != nil {
				t.Errorf("HTTP/2 %v: %v", http2, err)
			}
		}
	}
}

// rawCodec has bytes for messages.
type rawCodec struct{}

func (rawCodec) Name() string                       { return "proto" }
func (rawCodec) Marshal(m any) ([]byte, error)      { return *m.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, m any) error { *m.(*[]byte) = data; return nil }
