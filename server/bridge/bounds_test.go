package bridge_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"example.com/roster/server/bridge"
)

var streamMiB = flag.Int("bridge.stream", 96, "MiB that TestALongStreamTakesConstantMemory sends in each direction")

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

type (
	outputRequest  = testgrpc.StreamingOutputCallRequest
	outputResponse = testgrpc.StreamingOutputCallResponse
	inputRequest   = testgrpc.StreamingInputCallRequest
	inputResponse  = testgrpc.StreamingInputCallResponse
)

func outputs(url string, options ...connect.ClientOption) *connect.Client[outputRequest, outputResponse] {
	return connect.NewClient[outputRequest, outputResponse](h2c(), url+testPath+"StreamingOutputCall", options...)
}

func duplex(url string, options ...connect.ClientOption) *connect.Client[outputRequest, outputResponse] {
	return connect.NewClient[outputRequest, outputResponse](h2c(), url+testPath+"FullDuplexCall", options...)
}

func inputs(url string, options ...connect.ClientOption) *connect.Client[inputRequest, inputResponse] {
	return connect.NewClient[inputRequest, inputResponse](h2c(), url+testPath+"StreamingInputCall", options...)
}

func unary(url string, options ...connect.ClientOption) *connect.Client[testgrpc.SimpleRequest, testgrpc.SimpleResponse] {
	return connect.NewClient[testgrpc.SimpleRequest, testgrpc.SimpleResponse](h2c(), url+testPath+"UnaryCall", options...)
}

// A stream that waits for its upstream ends when the port closes, with an error that makes clients call
// again, and does not delay the port.
func TestStreamsEndWhenThePortCloses(t *testing.T) {
	var closePort func()
	url, b := serveBridgeUntil(t, bridge.Config{Upstreams: upstream(t, "http://"+startServer(t, "").address)}, t.Output(), func(stop func()) { closePort = stop })
	mounted(t, b)
	server, err := outputs(url, connect.WithGRPC()).CallServerStream(t.Context(), connect.NewRequest(&outputRequest{
		ResponseParameters: []*testgrpc.ResponseParameters{{Size: 1}, {IntervalUs: 1}}}))
	if err != nil || !server.Receive() {
		t.Fatal(err, server.Err())
	}
	open := duplex(url, connect.WithGRPC()).CallBidiStream(t.Context())
	if err := open.Send(&outputRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := open.Receive(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	closePort()
	if server.Receive() || connect.CodeOf(server.Err()) != connect.CodeUnavailable || !strings.Contains(server.Err().Error(), "being restarted") {
		t.Error("the server streams:", server.Err())
	}
	if _, err := open.Receive(); connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "being restarted") {
		t.Error("both stream:", err)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Error("the streams ended with the drain's timeout:", took)
	}
}

// Calls leave nothing behind, whoever ends them.
func TestEndedStreamsLeaveNoGoroutine(t *testing.T) {
	p := startServer(t, "")
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+p.address)})
	mounted(t, b)
	one := func(client *connect.Client[outputRequest, outputResponse]) (*connect.BidiStreamForClient[outputRequest, outputResponse], func()) {
		ctx, cancel := context.WithCancel(t.Context())
		stream := client.CallBidiStream(ctx)
		if err := stream.Send(&outputRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Receive(); err != nil {
			t.Fatal(err)
		}
		return stream, func() { cancel(); _ = stream.CloseResponse() }
	}
	client := duplex(url, connect.WithGRPC())
	_, cancel := one(client)
	cancel()
	await(t, "the stream that its caller left to end", func() bool { return !stacks("bridge.(*method)") })
	var cancels []func()
	for range 50 {
		_, cancel := one(client)
		cancels = append(cancels, cancel)
	}
	for _, cancel := range cancels {
		cancel()
	}
	await(t, "the streams that callers left to end", func() bool { return !stacks("bridge.(*method)") })
	// The upstream ends them.
	var streams []*connect.BidiStreamForClient[outputRequest, outputResponse]
	for range 20 {
		stream, cancel := one(client)
		defer cancel()
		streams = append(streams, stream)
	}
	p.Stop()
	for _, stream := range streams {
		if _, err := stream.Receive(); connect.CodeOf(err) != connect.CodeUnavailable {
			t.Fatal(err)
		}
	}
	await(t, "the streams that the upstream left to end", func() bool { return !stacks("bridge.(*method)") })
}

// stacks reports whether any goroutine is in a function.
func stacks(function string) bool {
	buffer := make([]byte, 8<<20)
	return strings.Contains(string(buffer[:runtime.Stack(buffer, true)]), function)
}

// peakHeap is the most that live objects took while work ran, above what they took before, in MiB. Garbage
// does not count: how much of it waits depends on what other tests hold, and on how busy the machine is.
func peakHeap(work func()) int64 {
	defer debug.SetGCPercent(debug.SetGCPercent(10)) // collections are frequent, each finds what is live
	live := func() int64 {
		samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(samples)
		return int64(samples[0].Value.Uint64())
	}
	runtime.GC()
	before := live()
	peak := before
	done, sampled := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sampled)
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
				peak = max(peak, live())
			}
		}
	}()
	work()
	runtime.GC() // what is still held counts too
	close(done)
	<-sampled
	peak = max(peak, live())
	return (peak - before) >> 20
}

// A stream takes the same memory however long it is. The heap is that of the caller and the upstream too.
func TestALongStreamTakesConstantMemory(t *testing.T) {
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+startServer(t, "").address)})
	mounted(t, b)
	const piece = 256 << 10
	count := *streamMiB << 20 / piece
	grew := peakHeap(func() {
		request := &outputRequest{}
		for range count {
			request.ResponseParameters = append(request.ResponseParameters, &testgrpc.ResponseParameters{Size: piece})
		}
		stream, err := outputs(url, connect.WithGRPC()).CallServerStream(t.Context(), connect.NewRequest(request))
		if err != nil {
			t.Fatal(err)
		}
		received := 0
		for stream.Receive() {
			received++
		}
		if received != count || stream.Err() != nil {
			t.Error("received", received, stream.Err())
		}
	})
	t.Logf("%d MiB from the upstream: the heap grew by %d MiB", *streamMiB, grew)
	if grew > 48 {
		t.Error("the heap grew by MiB:", grew)
	}
	grew = peakHeap(func() {
		stream := inputs(url, connect.WithGRPC()).CallClientStream(t.Context())
		request := &inputRequest{Payload: &testgrpc.Payload{Body: make([]byte, piece)}}
		for range count {
			if err := stream.Send(request); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := stream.CloseAndReceive(); err != nil {
			t.Error(err)
		}
	})
	t.Logf("%d MiB to the upstream: the heap grew by %d MiB", *streamMiB, grew)
	if grew > 48 {
		t.Error("the heap grew by MiB:", grew)
	}
}

func TestAThousandStreamsAtATime(t *testing.T) {
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+startServer(t, "").address)})
	mounted(t, b)
	client := duplex(url, connect.WithGRPC())
	const many = 1000
	streams := make([]*connect.BidiStreamForClient[outputRequest, outputResponse], many)
	for round := range 2 {
		for i := range streams {
			if round == 0 {
				streams[i] = client.CallBidiStream(t.Context())
			}
			if err := streams[i].Send(&outputRequest{Payload: &testgrpc.Payload{Body: make([]byte, i)}}); err != nil {
				t.Fatal(i, err)
			}
		}
		for i, stream := range streams {
			if reply, err := stream.Receive(); err != nil || len(reply.GetPayload().GetBody()) != i {
				t.Fatal(round, i, err)
			}
		}
	}
	for _, stream := range streams {
		if err := stream.CloseRequest(); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
}

// With a larger limit, larger messages pass in both directions, and one over it is refused in words that
// name the flag.
func TestMessagesUpToTheLimit(t *testing.T) {
	p := &process{Server: grpc.NewServer(grpc.MaxRecvMsgSize(64<<20), grpc.MaxSendMsgSize(64<<20))}
	service := new(testService)
	testgrpc.RegisterTestServiceServer(p, service)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go p.Serve(listener)
	t.Cleanup(p.Stop)
	const limit = 20 << 20
	url, b := serveBridge(t, bridge.Config{
		Upstreams:  upstream(t, "grpc.testing.TestService=http://"+listener.Addr().String()),
		Schema:     testSchema(),
		MaxMessage: limit,
	})
	mounted(t, b)
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			body := make([]byte, limit-100)
			if strings.Contains(p.name, "JSON") {
				body = make([]byte, limit/2) // base64 is longer
			}
			request := &testgrpc.SimpleRequest{ResponseSize: int32(len(body)), Payload: &testgrpc.Payload{Body: body}}
			reply, err := unary(url, p.options...).CallUnary(t.Context(), connect.NewRequest(request))
			if err != nil || len(reply.Msg.GetPayload().GetBody()) != len(body) {
				t.Fatal(err)
			}
			_, err = unary(url, p.options...).CallUnary(t.Context(), connect.NewRequest(&testgrpc.SimpleRequest{ResponseSize: limit + 1}))
			if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "UnaryCall is longer than 20971520 bytes, before or after compression (as much as --bridge-max-message allows)") {
				t.Error("a reply:", err)
			}
			request.Payload.Body = make([]byte, limit+1)
			_, err = unary(url, p.options...).CallUnary(t.Context(), connect.NewRequest(request))
			if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "20971520 bytes, before or after compression (as much as --bridge-max-message allows)") {
				t.Error("a request:", err)
			}
		})
	}
}

// What is no gRPC server is told apart in the log, with what to do.
func TestWhatIsNoGRPCServerIsToldInTheLog(t *testing.T) {
	// A server of Connect alone: it speaks HTTP/2, and refuses gRPC's content type.
	noGRPC := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnsupportedMediaType)
	}))
	noGRPC.Config.Protocols = new(http.Protocols)
	noGRPC.Config.Protocols.SetUnencryptedHTTP2(true)
	noGRPC.Start()
	defer noGRPC.Close()
	notFound := httptest.NewUnstartedServer(http.NotFoundHandler())
	notFound.Config.Protocols = noGRPC.Config.Protocols
	notFound.Start()
	defer notFound.Close()
	bare := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(bare, new(testService))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go bare.Serve(listener)
	defer bare.Stop()
	for name, test := range map[string]struct{ url, want string }{
		"Connect alone": {noGRPC.URL, "it speaks HTTP/2, but not gRPC"},
		"no such page":  {notFound.URL, "it speaks HTTP/2, but not gRPC"},
		"no reflection": {"http://" + listener.Addr().String(), "the server has no reflection service, so its services are not known. In Python: pip install grpcio-reflection"},
	} {
		t.Run(name, func(t *testing.T) {
			log := new(lines)
			url, _ := serveBridgeUntil(t, bridge.Config{Upstreams: upstream(t, test.url)}, log, nil)
			await(t, "the log to say "+test.want, func() bool { return log.has(test.want) })
			_, err := unary(url).CallUnary(t.Context(), connect.NewRequest(&testgrpc.SimpleRequest{}))
			if connect.CodeOf(err) != connect.CodeUnavailable {
				t.Error(err)
			}
			if told := strings.Contains(err.Error(), "since it has no reflection: the log here says what to do"); told != (name == "no reflection") {
				t.Error("to wait is the wrong advice to somebody whose server never tells its services:", err)
			}
		})
	}
}

func TestBothStreamsNeedHTTP2(t *testing.T) {
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+startServer(t, "").address)})
	mounted(t, b)
	for _, contentType := range []string{"application/connect+json", "application/grpc-web+proto"} {
		reply, err := http.Post(url+testPath+"FullDuplexCall", contentType, bytes.NewReader(make([]byte, 5)))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(reply.Body)
		reply.Body.Close()
		if said := string(text) + reply.Header.Get("Grpc-Message"); !strings.Contains(strings.ReplaceAll(said, "%2C", ","), "streams in both directions, which needs HTTP/2") {
			t.Errorf("%s: %s %q %v", contentType, reply.Status, text, reply.Header)
		}
	}
	// A stream from the client alone is a body like any other.
	body := append(binary.BigEndian.AppendUint32([]byte{0}, 2), "{}"...)
	reply, err := http.Post(url+testPath+"StreamingInputCall", "application/connect+json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(reply.Body)
	reply.Body.Close()
	if !strings.Contains(string(text), `{"aggregatedPayloadSize":0}`) {
		t.Errorf("%s %q", reply.Status, text)
	}
}

// A caller on gRPC's C core refuses more than 8 KiB of metadata at random. It gets an error that says
// so, and the code and the text of an upstream's own error.
func TestMetadataThatACallerWouldRefuse(t *testing.T) {
	p := startServer(t, "")
	p.service.more = metadata.Pairs("more", strings.Repeat("x", 9000))
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+p.address)})
	mounted(t, b)
	call := func(agent string, request *testgrpc.SimpleRequest) error {
		r := connect.NewRequest(request)
		r.Header().Set("User-Agent", agent)
		_, err := unary(url, connect.WithGRPC()).CallUnary(t.Context(), r)
		return err
	}
	if err := call("grpc-go/1.83", &testgrpc.SimpleRequest{}); err != nil {
		t.Error("a caller that accepts it:", err)
	}
	const python = "grpc-python/1.76.0 grpc-c/51.0.0 (linux; chttp2)"
	if err := call(python, &testgrpc.SimpleRequest{}); connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "bytes of metadata, and the caller's gRPC library accepts 7680: have the server send less") {
		t.Error("success:", err)
	}
	err := call(python, &testgrpc.SimpleRequest{ResponseStatus: &testgrpc.EchoStatus{Code: 9, Message: "not now"}})
	var wire *connect.Error
	if !errors.As(err, &wire) || wire.Code() != connect.CodeFailedPrecondition || !strings.HasPrefix(wire.Message(), "not now (the metadata of this error are left out") || len(wire.Details()) != 1 {
		t.Error("an error:", err)
	}
	err = call(python, &testgrpc.SimpleRequest{ResponseStatus: &testgrpc.EchoStatus{Code: 9, Message: strings.Repeat("long ", 4000)}})
	if !errors.As(err, &wire) || wire.Code() != connect.CodeFailedPrecondition || len(wire.Message()) > 2000 || len(wire.Details()) != 0 {
		t.Error("a long error:", len(wire.Message()), wire.Code(), wire.Details())
	}
}

func TestJSONThatTakesTooMuchMemoryIsRefused(t *testing.T) {
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+startServer(t, "").address)})
	mounted(t, b)
	body := `{"responseParameters":[` + strings.TrimSuffix(strings.Repeat("{},", 1_000_000), ",") + `]}`
	body = string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body)))) + body
	reply, err := http.Post(url+testPath+"StreamingOutputCall", "application/connect+json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(reply.Body)
	reply.Body.Close()
	if !strings.Contains(string(text), `"resource_exhausted"`) || !strings.Contains(string(text), "call with protobuf in place of JSON") {
		t.Errorf("%s %.300q", reply.Status, text)
	}
}

// A caller that has a client stream open is told at once that the server has ended the call: it need not send
// anything more for that.
func TestAServerThatDoesNotWaitForTheRest(t *testing.T) {
	p := startServer(t, "")
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+p.address)})
	mounted(t, b)
	for _, protocol := range protocols {
		for _, enough := range []bool{true, false} {
			t.Run(fmt.Sprint(protocol.name, " ", enough), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				stream := inputs(url, protocol.options...).CallClientStream(ctx)
				request := &inputRequest{ExpectCompressed: &testgrpc.BoolValue{Value: enough}} // see testService
				if err := stream.Send(request); err != nil {
					t.Fatal(err)
				}
				// Connect's client can wait for the reply with the stream open by its connection alone.
				conn, err := stream.Conn()
				if err != nil {
					t.Fatal(err)
				}
				reply := new(inputResponse)
				switch err := conn.Receive(reply); {
				case enough && (err != nil || reply.GetAggregatedPayloadSize() != 7):
					t.Error(err, reply)
				case !enough && connect.CodeOf(err) != connect.CodePermissionDenied:
					t.Error(err)
				}
			})
		}
	}
}

// A call over HTTP/1.1 that is answered before all its messages have been read does no harm to the later calls
// on the connection.
func TestWhatComesAfterACallWithoutItsRest(t *testing.T) {
	const limit = 64 << 10
	p := startServer(t, "")
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+p.address), MaxMessage: limit})
	mounted(t, b)
	for name, option := range map[string][]connect.ClientOption{"gRPC-Web": {connect.WithGRPCWeb()}, "Connect": nil} {
		caller := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
		early := connect.NewClient[inputRequest, inputResponse](caller, url+testPath+"StreamingInputCall", option...)
		after := connect.NewClient[testgrpc.SimpleRequest, testgrpc.SimpleResponse](caller, url+testPath+"UnaryCall", option...)
		for range 20 {
			stream := early.CallClientStream(t.Context())
			_ = stream.Send(&inputRequest{})
			_ = stream.Send(&inputRequest{Payload: &testgrpc.Payload{Body: make([]byte, limit+1)}})
			if _, err := stream.CloseAndReceive(); connect.CodeOf(err) != connect.CodeResourceExhausted {
				t.Errorf("%s: the call without its rest: %v", name, err)
			}
			for range 3 {
				if _, err := after.CallUnary(t.Context(), connect.NewRequest(&testgrpc.SimpleRequest{})); err != nil {
					t.Fatalf("%s: a later call: %v", name, err)
				}
			}
		}
	}
}
