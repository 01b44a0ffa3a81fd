package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/server/rpc"
	"example.com/roster/server/rpc/rpctest"
	"example.com/roster/server/service"
)

// seen is what an observer saw of one request.
type seen struct {
	procedure string
	protocol  rpc.Protocol
	json      bool
	code      connect.Code
	refused   string
	status    int
}

type observer struct {
	mu      sync.Mutex
	table   *rpc.Table
	running int
	ended   []seen
	sent    int64
	took    time.Duration
	more    chan struct{}
}

func (o *observer) Serves(table *rpc.Table) { o.table = table }

func (o *observer) Begin(*rpc.Call, *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.running++
}

func (o *observer) End(c *rpc.Call, _ *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.running--
	o.sent, o.took = c.Sent(), c.Took
	o.ended = append(o.ended, seen{c.Procedure, c.Protocol, c.Codec == rpc.JSON, c.Code(), string(c.Refused), c.Status()})
	o.more <- struct{}{}
}

// last waits for the end of a request and returns what the observer saw of it.
func (o *observer) last(t *testing.T) seen {
	t.Helper()
	select {
	case <-o.more:
	case <-time.After(10 * time.Second):
		t.Fatal("no request ended")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ended[len(o.ended)-1]
}

func observed() (*observer, Config) {
	o := &observer{more: make(chan struct{}, 1000)}
	return o, Config{Observers: []rpc.Observer{o}}
}

// failing is a route whose handler fails as its error says.
func failing(path string, err error) rpctest.Route {
	answer := func(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
		if err == http.ErrAbortHandler {
			panic(err)
		}
		return nil, err
	}
	return rpctest.Route{Path: path, Handler: connect.NewUnaryHandlerSimple(path, answer, service.HandlerOptions(slog.New(slog.DiscardHandler)))}
}

func TestWhatObserversSee(t *testing.T) {
	var (
		good     = string(marshal(t, 1, 2))
		grpcGood = string(envelope(0, []byte(good)))
		long     = strings.Repeat("x", rpc.MaxMessageBytes+1)
		grpcLong = string(envelope(0, []byte(long)))
	)
	type request struct {
		name, method, path, contentType, body string
		headers                               []string
		want                                  seen
	}
	user := func(protocol rpc.Protocol, json bool, code connect.Code, status int) seen {
		return seen{"/MyService/User", protocol, json, code, "", status}
	}
	tests := []request{
		{"gRPC", "POST", "/MyService/User", "application/grpc", grpcGood, nil, user(rpc.GRPC, false, 0, 200)},
		{"gRPC with its codec", "POST", "/MyService/User", "application/grpc+proto", grpcGood, nil, user(rpc.GRPC, false, 0, 200)},
		{"gRPC-Web", "POST", "/MyService/User", "application/grpc-web+proto", grpcGood, nil, user(rpc.GRPCWeb, false, 0, 200)},
		{"gRPC-Web JSON", "POST", "/MyService/User", "application/grpc-web+json", string(envelope(0, []byte("{}"))), nil, user(rpc.GRPCWeb, true, 0, 200)},
		{"gRPC-Web in text", "POST", "/MyService/User", "application/grpc-web-text", base64.StdEncoding.EncodeToString([]byte(grpcGood)), nil, user(rpc.GRPCWeb, false, 0, 200)},
		{"gRPC-Web in text that is none", "POST", "/MyService/User", "application/grpc-web-text+proto", "?", nil, user(rpc.GRPCWeb, false, connect.CodeInvalidArgument, 200)},
		{"gRPC with a parameter", "POST", "/MyService/User", "application/grpc; charset=utf-8", grpcGood, nil, user(rpc.GRPC, false, 0, 200)},
		{"gRPC with another codec", "POST", "/MyService/User", "application/grpc+custom", grpcGood, nil, seen{"/MyService/User", rpc.GRPC, false, connect.CodeUnimplemented, "unimplemented", 200}},
		{"Connect", "POST", "/MyService/User", "application/proto", good, nil, user(rpc.Connect, false, 0, 200)},
		{"JSON", "POST", "/MyService/User", "application/json", `{}`, nil, user(rpc.Connect, true, 0, 200)},
		{"JSON with a charset", "POST", "/MyService/User", "application/json; charset=UTF-8", `{}`, nil, user(rpc.Connect, true, 0, 200)},

		{"the handler's error, gRPC", "POST", "/s/Fails", "application/grpc", string(envelope(0, nil)), nil, seen{"/s/Fails", rpc.GRPC, false, connect.CodeDataLoss, "", 200}},
		{"the handler's error, gRPC-Web", "POST", "/s/Fails", "application/grpc-web", string(envelope(0, nil)), nil, seen{"/s/Fails", rpc.GRPCWeb, false, connect.CodeDataLoss, "", 200}},
		{"the handler's error, Connect", "POST", "/s/Fails", "application/json", "{}", nil, seen{"/s/Fails", rpc.Connect, true, connect.CodeDataLoss, "", 500}},

		// Errors that Connect finds before it calls an interceptor.
		{"malformed, gRPC", "POST", "/MyService/User", "application/grpc", string(envelope(0, []byte("x"))), nil, user(rpc.GRPC, false, connect.CodeInvalidArgument, 200)},
		{"malformed, gRPC-Web", "POST", "/MyService/User", "application/grpc-web", string(envelope(0, []byte("x"))), nil, user(rpc.GRPCWeb, false, connect.CodeInvalidArgument, 200)},
		{"malformed, Connect", "POST", "/MyService/User", "application/json", `{`, nil, user(rpc.Connect, true, connect.CodeInvalidArgument, 400)},
		{"too long, gRPC", "POST", "/MyService/User", "application/grpc", grpcLong, nil, user(rpc.GRPC, false, connect.CodeResourceExhausted, 200)},
		{"too long, gRPC-Web", "POST", "/MyService/User", "application/grpc-web", grpcLong, nil, user(rpc.GRPCWeb, false, connect.CodeResourceExhausted, 200)},
		{"too long, Connect", "POST", "/MyService/User", "application/proto", long, nil, user(rpc.Connect, false, connect.CodeResourceExhausted, 429)},
		{"a timeout that is none, gRPC", "POST", "/MyService/User", "application/grpc", grpcGood, []string{"Grpc-Timeout", "soon"}, seen{"/MyService/User", rpc.GRPC, false, connect.CodeInvalidArgument, "invalid_argument", 200}},
		{"too late when it comes, Connect", "POST", "/MyService/Health", "application/json", "{}", []string{"Connect-Timeout-Ms", "0"}, seen{"/MyService/Health", rpc.Connect, true, connect.CodeDeadlineExceeded, "", 504}},

		{"compression", "POST", "/MyService/User", "application/grpc", grpcGood, []string{"Grpc-Encoding", "br"}, seen{"/MyService/User", rpc.GRPC, false, connect.CodeUnimplemented, "unimplemented", 200}},
		{"no such procedure", "POST", "/MyService/None", "application/grpc", grpcGood, nil, seen{"", rpc.NotRPC, false, connect.CodeUnimplemented, "unimplemented", 200}},
		{"content type", "POST", "/MyService/User", "text/plain", "x", nil, seen{"/MyService/User", rpc.NotRPC, false, 0, "content_type", 415}},
		{"method", "PUT", "/MyService/User", "", "", nil, seen{"/MyService/User", rpc.NotRPC, false, 0, "method", 405}},
		{"a GET as Connect has it", "GET", "/MyService/User?connect=v1&encoding=json&message=%7B%7D", "", "", nil, user(rpc.Connect, true, 0, 200)},
		{"a HEAD as Connect has GET", "HEAD", "/MyService/User?connect=v1&encoding=json&message=%7B%7D", "", "", nil, user(rpc.Connect, true, 0, 200)},
		{"a GET without its message", "GET", "/MyService/User", "", "", nil, seen{"/MyService/User", rpc.NotRPC, false, 0, "content_type", 415}},
		{"a GET with a body", "GET", "/MyService/User?connect=v1&encoding=json&message=%7B%7D", "", "x", nil, seen{"/MyService/User", rpc.NotRPC, true, 0, "content_type", 415}},
		{"the page", "GET", "/", "", "", nil, seen{"", rpc.NotRPC, false, 0, "", 200}},
		{"no page", "GET", "/none", "", "", nil, seen{"", rpc.NotRPC, false, 0, "", 404}},
		{"handler gives up", "POST", "/s/Aborts", "application/json", "{}", nil, seen{"/s/Aborts", rpc.Connect, true, connect.CodeUnknown, "", 0}},
	}
	for _, http2 := range []bool{true, false} {
		for _, standard := range []bool{false, true} {
			o, config := observed()
			config.StandardHTTP2 = standard
			p := start(t, config, nil, failing("/s/Fails", connect.NewError(connect.CodeDataLoss, nil)), failing("/s/Aborts", http.ErrAbortHandler))
			for _, test := range tests {
				r, err := http.NewRequestWithContext(t.Context(), test.method, "http://"+p.address+test.path, strings.NewReader(test.body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", test.contentType)
				for i := 0; i < len(test.headers); i += 2 {
					r.Header.Set(test.headers[i], test.headers[i+1])
				}
				if response, err := client(t, http2).Do(r); err == nil {
					_, _ = io.Copy(io.Discard, response.Body)
					response.Body.Close()
				}
				if got := o.last(t); got != test.want {
					t.Errorf("HTTP/2 %v, net/http's %v: %s: seen %+v\nwant %+v", http2, standard, test.name, got, test.want)
				}
			}
			if o.running != 0 {
				t.Errorf("%d requests began and did not end", o.running)
			}
		}
	}
}

func TestObserversAreToldTheProcedures(t *testing.T) {
	o, config := observed()
	p := start(t, config, nil, failing("/s/Fails", nil))
	var paths []string
	for _, method := range o.table.Methods() {
		paths = append(paths, method.Path)
	}
	if got := strings.Join(paths, " "); !strings.Contains(got, "/MyService/User") || !strings.Contains(got, "/s/Fails") {
		t.Errorf("procedures %s", got)
	}
	_, body := p.post(true, "/MyService/User", "application/json", strings.NewReader(`{"userIDs":[1]}`))
	o.last(t)
	if o.sent != int64(len(body)) || o.took <= 0 {
		t.Errorf("a reply of %d bytes after %v, want %d", o.sent, o.took, len(body))
	}
}

// A body that is too long ends an HTTP/1.1 connection, with an observer or without.
func TestAnObservedBodyThatIsTooLongEndsItsConnection(t *testing.T) {
	_, config := observed()
	p := start(t, config, nil)
	response, _ := p.post(false, "/MyService/User", "application/json", bytes.NewReader(make([]byte, 2*rpc.MaxMessageBytes)))
	if !response.Close {
		t.Errorf("status %d, and the connection stays open", response.StatusCode)
	}
}

func TestStatsCountConnections(t *testing.T) {
	for _, http2 := range []bool{true, false} {
		_, config := observed()
		p := start(t, config, nil)
		c := client(t, http2)
		for range 3 {
			response, err := c.Get("http://" + p.address + "/")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
		accepted, open := p.server.Stats().Connections.Connections()
		engine := p.server.Stats().HTTP2.Read()
		if accepted != 1 || open != 1 {
			t.Errorf("HTTP/2 %v: accepted %d, open %d, want 1 and 1", http2, accepted, open)
		}
		if http2 && (engine.Connections != 1 || engine.ConnectionsOpen != 1 || engine.Streams != 3) || !http2 && engine.Connections != 0 {
			t.Errorf("HTTP/2 %v: the engine counts %+v", http2, engine)
		}
		c.CloseIdleConnections()
		p.stop()
		if accepted, open := p.server.Stats().Connections.Connections(); accepted != 1 || open != 0 {
			t.Errorf("HTTP/2 %v, at the end: accepted %d, open %d, want 1 and 0", http2, accepted, open)
		}
		if engine := p.server.Stats().HTTP2.Read(); engine.ConnectionsOpen != 0 || http2 && engine.Streams != 3 {
			t.Errorf("HTTP/2 %v, at the end: the engine counts %+v", http2, engine)
		}
	}
}
