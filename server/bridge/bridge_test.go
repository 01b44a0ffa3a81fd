package bridge_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/roster/server"
	"example.com/roster/server/bridge"
	"example.com/roster/server/service"
)

// testService answers as the name of each method says, and tells what it was sent.
type testService struct {
	testgrpc.UnimplementedTestServiceServer

	mu    sync.Mutex
	calls int
	seen  metadata.MD                   // of the last call
	more  metadata.MD                   // what trailers have besides
	wait  func(*testgrpc.SimpleRequest) // before a unary call is answered; may be nil
}

func (s *testService) note(ctx context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.seen = md
}

func (s *testService) metadata() metadata.MD {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

func (s *testService) UnaryCall(ctx context.Context, request *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	s.note(ctx)
	if s.wait != nil {
		s.wait(request)
	}
	_ = grpc.SetHeader(ctx, metadata.Pairs("leading", "yes", "leading-bin", "\x00\x01\xff"))
	_ = grpc.SetTrailer(ctx, metadata.Join(s.more, metadata.Pairs("trailing", "yes", "trailing-bin", "\xff\x00")))
	if wanted := request.GetResponseStatus(); wanted.GetCode() != 0 {
		st, err := status.New(codes.Code(wanted.GetCode()), wanted.GetMessage()).WithDetails(&errdetails.ErrorInfo{Reason: "TEST"})
		if err != nil {
			return nil, err
		}
		return nil, st.Err()
	}
	return &testgrpc.SimpleResponse{Payload: &testgrpc.Payload{Body: bytes.Repeat([]byte{'x'}, int(request.GetResponseSize()))}}, nil
}

func (s *testService) StreamingOutputCall(request *testgrpc.StreamingOutputCallRequest, stream grpc.ServerStreamingServer[testgrpc.StreamingOutputCallResponse]) error {
	s.note(stream.Context())
	stream.SetTrailer(metadata.Pairs("trailing", "yes"))
	for _, p := range request.GetResponseParameters() {
		if p.GetIntervalUs() > 0 { // forever
			<-stream.Context().Done()
			return stream.Context().Err()
		}
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return nil
}

func (s *testService) StreamingInputCall(stream grpc.ClientStreamingServer[testgrpc.StreamingInputCallRequest, testgrpc.StreamingInputCallResponse]) error {
	var sum int32
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&testgrpc.StreamingInputCallResponse{AggregatedPayloadSize: sum})
		}
		if err != nil {
			return err
		}
		if early := request.GetExpectCompressed(); early != nil { // before the caller has sent all
			if !early.GetValue() {
				return status.Error(codes.PermissionDenied, "not this one")
			}
			return stream.SendAndClose(&testgrpc.StreamingInputCallResponse{AggregatedPayloadSize: 7})
		}
		sum += int32(len(request.GetPayload().GetBody()))
	}
}

func (s *testService) FullDuplexCall(stream grpc.BidiStreamingServer[testgrpc.StreamingOutputCallRequest, testgrpc.StreamingOutputCallResponse]) error {
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if wanted := request.GetResponseStatus(); wanted.GetCode() != 0 {
			return status.Error(codes.Code(wanted.GetCode()), wanted.GetMessage())
		}
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: request.GetPayload()}); err != nil {
			return err
		}
	}
}

// A server is one process of an upstream.
type process struct {
	*grpc.Server
	address string
	service *testService
	health  *health.Server
}

// startServer starts a server with reflection and health, at address, or anywhere if that is empty.
func startServer(t *testing.T, address string, options ...grpc.ServerOption) *process {
	t.Helper()
	p := &process{Server: grpc.NewServer(options...), service: new(testService), health: health.NewServer()}
	testgrpc.RegisterTestServiceServer(p, p.service)
	healthpb.RegisterHealthServer(p, p.health)
	reflection.Register(p)
	var listener net.Listener
	await(t, "the address to be free", func() (ok bool) {
		var err error
		if address == "" {
			address = "127.0.0.1:0"
		}
		listener, err = net.Listen("tcp", address)
		return err == nil
	})
	p.address = listener.Addr().String()
	go p.Serve(listener)
	t.Cleanup(p.Stop)
	return p
}

// testSchema is the descriptor set of the service.
func testSchema() *descriptorpb.FileDescriptorSet {
	set := &descriptorpb.FileDescriptorSet{}
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
	}
	add(testgrpc.File_grpc_testing_test_proto)
	return set
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s for %s", what)
		}
	}
}

// serveBridge starts a port that has nothing but a bridge, and returns its URL.
func serveBridge(t *testing.T, config bridge.Config) (url string, b *bridge.Bridge) {
	t.Helper()
	return serveBridgeUntil(t, config, t.Output(), nil)
}

// serveBridgeUntil is serveBridge with a place for the log, and a function that is given the one which
// closes the port.
func serveBridgeUntil(t *testing.T, config bridge.Config, output io.Writer, closePort func(stop func())) (url string, b *bridge.Bridge) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(output, nil))
	config.Log, config.Options = log, service.HandlerOptions(log)
	b, err := bridge.New(config)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(server.Config{WithoutDirectory: true, Unknown: b.Unknown, Log: log, Local: true, DrainTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	if closePort != nil {
		closePort(stop)
	}
	served, bridged := make(chan error, 1), make(chan struct{})
	go func() { served <- srv.Serve(ctx, listener) }()
	bridging, stopBridging := context.WithCancel(context.Background()) // until the end of the drain
	go func() { b.Run(bridging, srv); close(bridged) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		stopBridging()
		<-bridged
	})
	return "http://" + listener.Addr().String(), b
}

func mounted(t *testing.T, b *bridge.Bridge) {
	t.Helper()
	await(t, "the service to be mounted and up", func() bool {
		mounts := b.Mounts()
		return len(mounts) == 1 && !mounts[0].Down
	})
}

func upstream(t *testing.T, text string) []bridge.Upstream {
	t.Helper()
	u, err := bridge.ParseUpstream(text)
	if err != nil {
		t.Fatal(err)
	}
	return []bridge.Upstream{u}
}

// h2c is an HTTP client that speaks HTTP/2 in cleartext.
func h2c() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: protocols}}
}

const testPath = "/grpc.testing.TestService/"

// protocols are all ways to call the bridge.
var protocols = []struct {
	name    string
	options []connect.ClientOption
}{
	{"gRPC", []connect.ClientOption{connect.WithGRPC()}},
	{"gRPC with gzip", []connect.ClientOption{connect.WithGRPC(), connect.WithSendGzip()}},
	{"gRPC JSON", []connect.ClientOption{connect.WithGRPC(), connect.WithProtoJSON()}},
	{"gRPC-Web", []connect.ClientOption{connect.WithGRPCWeb()}},
	{"gRPC-Web JSON", []connect.ClientOption{connect.WithGRPCWeb(), connect.WithProtoJSON()}},
	{"Connect", nil},
	{"Connect JSON", []connect.ClientOption{connect.WithProtoJSON()}},
	{"Connect JSON with gzip", []connect.ClientOption{connect.WithProtoJSON(), connect.WithSendGzip()}},
}

func TestEveryProtocolAndEveryKindOfCall(t *testing.T) {
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+startServer(t, "").address)})
	mounted(t, b)
	ctx := t.Context()
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			t.Run("unary", func(t *testing.T) {
				client := connect.NewClient[testgrpc.SimpleRequest, testgrpc.SimpleResponse](h2c(), url+testPath+"UnaryCall", p.options...)
				reply, err := client.CallUnary(ctx, connect.NewRequest(&testgrpc.SimpleRequest{ResponseSize: 100_000}))
				if err != nil || len(reply.Msg.GetPayload().GetBody()) != 100_000 {
					t.Fatal(reply, err)
				}
				bin, err := connect.DecodeBinaryHeader(reply.Header().Get("Leading-Bin"))
				if reply.Header().Get("Leading") != "yes" || string(bin) != "\x00\x01\xff" || err != nil {
					t.Error("header", reply.Header())
				}
				bin, err = connect.DecodeBinaryHeader(reply.Trailer().Get("Trailing-Bin"))
				if reply.Trailer().Get("Trailing") != "yes" || string(bin) != "\xff\x00" || err != nil {
					t.Error("trailer", reply.Trailer())
				}
			})
			t.Run("an error with details and metadata", func(t *testing.T) {
				client := connect.NewClient[testgrpc.SimpleRequest, testgrpc.SimpleResponse](h2c(), url+testPath+"UnaryCall", p.options...)
				_, err := client.CallUnary(ctx, connect.NewRequest(&testgrpc.SimpleRequest{
					ResponseStatus: &testgrpc.EchoStatus{Code: int32(codes.AlreadyExists), Message: "there: ünïcode\n"}}))
				var wire *connect.Error
				if !errors.As(err, &wire) || wire.Code() != connect.CodeAlreadyExists || wire.Message() != "there: ünïcode\n" {
					t.Fatal(err)
				}
				if len(wire.Details()) != 1 || wire.Details()[0].Type() != "google.rpc.ErrorInfo" {
					t.Error("details", wire.Details())
				}
				if wire.Meta().Get("Trailing") != "yes" || wire.Meta().Get("Leading") != "yes" {
					t.Error("metadata", wire.Meta())
				}
			})
			t.Run("server stream", func(t *testing.T) {
				client := connect.NewClient[testgrpc.StreamingOutputCallRequest, testgrpc.StreamingOutputCallResponse](h2c(), url+testPath+"StreamingOutputCall", p.options...)
				stream, err := client.CallServerStream(ctx, connect.NewRequest(&testgrpc.StreamingOutputCallRequest{
					ResponseParameters: []*testgrpc.ResponseParameters{{Size: 1}, {Size: 70_000}, {Size: 0}}}))
				if err != nil {
					t.Fatal(err)
				}
				defer stream.Close()
				var sizes []int
				for stream.Receive() {
					sizes = append(sizes, len(stream.Msg().GetPayload().GetBody()))
				}
				if fmt.Sprint(sizes) != "[1 70000 0]" || stream.Err() != nil || stream.ResponseTrailer().Get("Trailing") != "yes" {
					t.Error(sizes, stream.Err(), stream.ResponseTrailer())
				}
			})
			t.Run("client stream", func(t *testing.T) {
				client := connect.NewClient[testgrpc.StreamingInputCallRequest, testgrpc.StreamingInputCallResponse](h2c(), url+testPath+"StreamingInputCall", p.options...)
				stream := client.CallClientStream(ctx)
				for _, size := range []int{1, 70_000, 0} {
					if err := stream.Send(&testgrpc.StreamingInputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, size)}}); err != nil {
						t.Fatal(err)
					}
				}
				reply, err := stream.CloseAndReceive()
				if err != nil || reply.Msg.GetAggregatedPayloadSize() != 70_001 {
					t.Error(reply, err)
				}
			})
			t.Run("both stream", func(t *testing.T) {
				client := connect.NewClient[testgrpc.StreamingOutputCallRequest, testgrpc.StreamingOutputCallResponse](h2c(), url+testPath+"FullDuplexCall", p.options...)
				stream := client.CallBidiStream(ctx)
				for i := range 5 {
					if err := stream.Send(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, i)}}); err != nil {
						t.Fatal(err)
					}
					if reply, err := stream.Receive(); err != nil || len(reply.GetPayload().GetBody()) != i {
						t.Fatal(reply, err)
					}
				}
				// The upstream ends the call although the caller goes on.
				_ = stream.Send(&testgrpc.StreamingOutputCallRequest{ResponseStatus: &testgrpc.EchoStatus{Code: int32(codes.DataLoss), Message: "enough"}})
				if _, err := stream.Receive(); connect.CodeOf(err) != connect.CodeDataLoss {
					t.Error(err)
				}
				_ = stream.CloseRequest()
				_ = stream.CloseResponse()
			})
		})
	}
}

func TestMetadataGoesToTheUpstreamExceptWhatBelongsToTheConnection(t *testing.T) {
	p := startServer(t, "")
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+p.address), IdentityHeader: "x-caller"})
	mounted(t, b)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+testPath+"UnaryCall", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Authorization": "Bearer x", "Cookie": "a=b", "X-Request-Id": "7",
		"Trace-Bin": "AAH/", "Accept-Language": "de", "X-Caller": "somebody else", "Connect-Timeout-Ms": "5000",
		"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		// What gRPC has no form for would have grpc-go refuse the call.
		"X-Name": "Zoë", "X-Tab": "a\tb", "X!Odd": "1", "X_Even.": "2",
	} {
		request.Header.Set(name, value)
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil || reply.StatusCode != http.StatusOK {
		t.Fatal(reply, err)
	}
	reply.Body.Close()
	seen := p.service.metadata()
	for name, want := range map[string]string{
		"authorization": "Bearer x", "cookie": "", "x-request-id": "7", "trace-bin": "\x00\x01\xff", "accept-language": "",
		"x-name": "", "x-tab": "", "x!odd": "", "x_even.": "2",
		"x-caller": "", "connect-timeout-ms": "", "user-agent": "roster grpc-go/" + grpc.Version,
		"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "content-type": "application/grpc",
	} {
		if got := strings.Join(seen.Get(name), ","); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestJSONThatDoesNotFitNamesTheField(t *testing.T) {
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+startServer(t, "").address)})
	mounted(t, b)
	for body, want := range map[string]string{
		`{"responseSiz":1}`:    `unknown field "responseSiz"`,
		`{"responseSize":"a"}`: `responseSize`,
		`{`:                    `unexpected`,
		``:                     `send {} for an empty SimpleRequest`,
	} {
		reply, err := http.Post(url+testPath+"UnaryCall", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(reply.Body)
		reply.Body.Close()
		if reply.StatusCode != http.StatusBadRequest || !strings.Contains(strings.ReplaceAll(string(text), `\"`, `"`), want) {
			t.Errorf("%s: %s %s, want %q", body, reply.Status, text, want)
		}
	}
}

func TestAnUpstreamThatIsDownIsUnavailableByTheNameOfItsService(t *testing.T) {
	first := startServer(t, "")
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+first.address)})
	mounted(t, b)
	client := connect.NewClient[testgrpc.SimpleRequest, testgrpc.SimpleResponse](h2c(), url+testPath+"UnaryCall", connect.WithGRPC())
	call := func() error {
		_, err := client.CallUnary(t.Context(), connect.NewRequest(&testgrpc.SimpleRequest{}))
		return err
	}
	if err := call(); err != nil {
		t.Fatal(err)
	}
	first.Stop()
	await(t, "the service to be down", func() bool { return b.Mounts()[0].Down })
	err := call()
	if connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "grpc.testing.TestService is unavailable") ||
		strings.Contains(err.Error(), first.address) {
		t.Error(err)
	}
	startServer(t, first.address)
	mounted(t, b)
	if err := call(); err != nil {
		t.Error(err)
	}
}

func TestAnUpstreamWithTLS(t *testing.T) {
	credentialsOf := httptest.NewTLSServer(nil)
	defer credentialsOf.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(credentialsOf.Certificate())
	p := startServer(t, "", grpc.Creds(credentials.NewServerTLSFromCert(&credentialsOf.TLS.Certificates[0])))
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "https://"+p.address), TLS: &tls.Config{RootCAs: trusted}})
	mounted(t, b)
	client := connect.NewClient[testgrpc.SimpleRequest, testgrpc.SimpleResponse](h2c(), url+testPath+"UnaryCall", connect.WithGRPC())
	if _, err := client.CallUnary(t.Context(), connect.NewRequest(&testgrpc.SimpleRequest{})); err != nil {
		t.Error(err)
	}
}

func TestAnUpstreamMayBeDownAtStart(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+address)})
	client := connect.NewClient[testgrpc.SimpleRequest, testgrpc.SimpleResponse](h2c(), url+testPath+"UnaryCall", connect.WithGRPC())
	_, err = client.CallUnary(t.Context(), connect.NewRequest(&testgrpc.SimpleRequest{}))
	if connect.CodeOf(err) != connect.CodeUnavailable {
		t.Error(err)
	}
	startServer(t, address)
	mounted(t, b)
	if _, err := client.CallUnary(t.Context(), connect.NewRequest(&testgrpc.SimpleRequest{})); err != nil {
		t.Error(err)
	}
}

func TestCallsAreSpreadOverTheProcesses(t *testing.T) {
	var processes []*process
	var urls []string
	for range 4 {
		p := startServer(t, "")
		processes, urls = append(processes, p), append(urls, "http://"+p.address)
	}
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, strings.Join(urls, ","))})
	mounted(t, b)
	client := connect.NewClient[testgrpc.SimpleRequest, testgrpc.SimpleResponse](h2c(), url+testPath+"UnaryCall", connect.WithGRPC())
	call := func(n int) {
		t.Helper()
		for range n {
			if _, err := client.CallUnary(t.Context(), connect.NewRequest(&testgrpc.SimpleRequest{})); err != nil {
				t.Fatal(err)
			}
		}
	}
	count := func(p *process) int {
		p.service.mu.Lock()
		defer p.service.mu.Unlock()
		return p.service.calls
	}
	await(t, "every process to get calls", func() bool {
		call(10)
		return !slices.ContainsFunc(processes, func(p *process) bool { return count(p) == 0 })
	})
	before := count(processes[0])
	call(400)
	if n := count(processes[0]) - before; n < 50 || n > 150 {
		t.Errorf("one of four processes got %d calls of 400", n)
	}
	// A process that says that it is not serving gets none.
	processes[0].health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	await(t, "a process that is not serving to get no calls", func() bool {
		before := count(processes[0])
		call(40)
		return count(processes[0]) == before
	})
}
