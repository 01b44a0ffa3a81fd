package bridge_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	reflectpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectalpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/roster/server/bridge"
)

// says starts a bridge and waits until its log has a text.
func says(t *testing.T, config bridge.Config, want string) (url string) {
	t.Helper()
	log := new(lines)
	url, _ = serveBridgeUntil(t, config, log, nil)
	defer func() {
		if t.Failed() {
			t.Log(log.text.String())
		}
	}()
	await(t, "the log to say "+want, func() bool { return log.has(want) })
	return url
}

// What cannot be connected to is told apart in the log, with what to do. Its services are unknown, so that
// calls are UNAVAILABLE.
func TestWhatCannotBeConnectedToIsToldInTheLog(t *testing.T) {
	handler := http.NotFoundHandler()
	plain := httptest.NewServer(handler) // HTTP/1.1 alone
	defer plain.Close()
	secure := httptest.NewUnstartedServer(handler) // and with TLS
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	secure.StartTLS()
	defer secure.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(secure.Certificate())
	certificate := secure.TLS.Certificates[0]
	mutual := credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAnyClientCert})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, test := range []struct {
		name, url string
		config    bridge.Config
		want      string
	}{
		{"HTTP/1.1 alone", plain.URL, bridge.Config{}, "it answers in HTTP/1.1, and gRPC needs HTTP/2: only gRPC servers can be bridged"},
		{"HTTP/1.1 alone, with TLS", secure.URL, bridge.Config{TLS: &tls.Config{RootCAs: trusted}}, "or speak HTTP/1.1 alone"},
		{"TLS where cleartext is expected", "http://" + startServer(t, "", grpc.Creds(credentials.NewServerTLSFromCert(&certificate))).address, bridge.Config{},
			"it may speak HTTP/1.1 alone, or TLS, which needs a URL that begins with https"},
		{"cleartext where TLS is expected", "https://" + startServer(t, "").address, bridge.Config{}, "it does not speak TLS: use a URL that begins with http ("},
		{"HTTP/1.1 where TLS is expected", strings.Replace(plain.URL, "http:", "https:", 1), bridge.Config{}, "it does not speak TLS: use a URL that begins with http ("},
		{"a certificate that is not trusted", "https://" + startServer(t, "", grpc.Creds(credentials.NewServerTLSFromCert(&certificate))).address, bridge.Config{},
			"its certificate is not accepted: --bridge-ca has the CA certificates to trust"},
		{"a client certificate is missing", "https://" + startServer(t, "", grpc.Creds(mutual)).address, bridge.Config{TLS: &tls.Config{RootCAs: trusted}},
			"it may ask for a client certificate, which --bridge-cert and --bridge-key give"},
		{"nothing listens", "http://" + closed.Addr().String(), bridge.Config{}, "it does not answer: is it running at this address?"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.config.Upstreams = upstream(t, test.url)
			url := says(t, test.config, test.want)
			_, err := unary(url).CallUnary(t.Context(), connect.NewRequest(&testgrpc.SimpleRequest{}))
			if connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "a server behind this one has not told its services yet: call again later") {
				t.Error(err)
			}
		})
	}
}

// TLS with a certificate of the caller's.
func TestAnUpstreamThatAsksForACertificate(t *testing.T) {
	secure := httptest.NewTLSServer(nil)
	defer secure.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(secure.Certificate())
	certificate := secure.TLS.Certificates[0]
	p := startServer(t, "", grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAnyClientCert})))
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "https://"+p.address),
		TLS: &tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{certificate}}})
	mounted(t, b)
	if _, err := unary(url, connect.WithGRPC()).CallUnary(t.Context(), connect.NewRequest(&testgrpc.SimpleRequest{})); err != nil {
		t.Error(err)
	}
}

// reflector answers reflection with files, by name and by the symbols that they define.
type reflector struct {
	reflectpb.UnimplementedServerReflectionServer
	services []string
	find     func(file, symbol string) []*descriptorpb.FileDescriptorProto // nil is NOT_FOUND
}

func (r *reflector) ServerReflectionInfo(stream grpc.BidiStreamingServer[reflectpb.ServerReflectionRequest, reflectpb.ServerReflectionResponse]) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		reply := &reflectpb.ServerReflectionResponse{OriginalRequest: request}
		if request.GetListServices() != "" {
			list := &reflectpb.ListServiceResponse{}
			for _, name := range r.services {
				list.Service = append(list.Service, &reflectpb.ServiceResponse{Name: name})
			}
			reply.MessageResponse = &reflectpb.ServerReflectionResponse_ListServicesResponse{ListServicesResponse: list}
		} else if files := r.find(request.GetFileByFilename(), request.GetFileContainingSymbol()); files == nil {
			reply.MessageResponse = &reflectpb.ServerReflectionResponse_ErrorResponse{ErrorResponse: &reflectpb.ErrorResponse{
				ErrorCode: int32(codes.NotFound), ErrorMessage: "not found"}}
		} else {
			sent := &reflectpb.FileDescriptorResponse{}
			for _, file := range files {
				wire, err := proto.Marshal(file)
				if err != nil {
					return err
				}
				sent.FileDescriptorProto = append(sent.FileDescriptorProto, wire)
			}
			reply.MessageResponse = &reflectpb.ServerReflectionResponse_FileDescriptorResponse{FileDescriptorResponse: sent}
		}
		if err := stream.Send(reply); err != nil {
			return err
		}
	}
}

// alpha answers v1alpha as another reflector does v1: their messages are the same on the wire.
type alpha struct {
	reflectalpha.UnimplementedServerReflectionServer
	next *reflector
}

//lint:ignore SA1019 it is what servers without v1 have
func (a *alpha) ServerReflectionInfo(stream grpc.BidiStreamingServer[reflectalpha.ServerReflectionRequest, reflectalpha.ServerReflectionResponse]) error {
	return a.next.ServerReflectionInfo(&grpc.GenericServerStream[reflectpb.ServerReflectionRequest, reflectpb.ServerReflectionResponse]{ServerStream: stream})
}

// serveReflection starts a server that has the test service and this reflection alone.
func serveReflection(t *testing.T, register func(s *grpc.Server)) (url string) {
	t.Helper()
	server := grpc.NewServer(grpc.MaxSendMsgSize(1 << 30))
	testgrpc.RegisterTestServiceServer(server, new(testService))
	register(server)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return "http://" + listener.Addr().String()
}

// testFiles finds the files of the test service, by the name or the service.
func testFiles(file, symbol string) []*descriptorpb.FileDescriptorProto {
	for _, f := range testSchema().GetFile() {
		if f.GetName() == file || symbol != "" && f.GetName() == "grpc/testing/test.proto" {
			return []*descriptorpb.FileDescriptorProto{f}
		}
	}
	return nil
}

// refusing is reflection v1 of a server, or of a proxy before it, that does not answer it.
type refusing struct {
	reflectpb.UnimplementedServerReflectionServer
	code codes.Code
}

func (r refusing) ServerReflectionInfo(grpc.BidiStreamingServer[reflectpb.ServerReflectionRequest, reflectpb.ServerReflectionResponse]) error {
	return status.Error(r.code, "not here")
}

func TestReflectionV1AlphaWhereV1IsNotAnswered(t *testing.T) {
	for _, code := range []codes.Code{codes.Unimplemented, codes.Unavailable} {
		t.Run(code.String(), func(t *testing.T) {
			url := serveReflection(t, func(s *grpc.Server) {
				reflectpb.RegisterServerReflectionServer(s, refusing{code: code})
				reflectalpha.RegisterServerReflectionServer(s, &alpha{next: &reflector{services: []string{"grpc.testing.TestService"}, find: testFiles}})
			})
			port, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, url)})
			mounted(t, b)
			if _, err := unary(port, connect.WithGRPC()).CallUnary(t.Context(), connect.NewRequest(&testgrpc.SimpleRequest{})); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("neither", func(t *testing.T) {
		url := serveReflection(t, func(s *grpc.Server) {
			reflectpb.RegisterServerReflectionServer(s, refusing{code: codes.PermissionDenied})
		})
		says(t, bridge.Config{Upstreams: upstream(t, url)}, "code = PermissionDenied desc = not here")
	})
}

// What is wrong with the files of a service is told by name. The other services of the server are mounted.
func TestFilesThatDoNotLinkAreNamed(t *testing.T) {
	service := func(name string, fields ...*descriptorpb.FieldDescriptorProto) *descriptorpb.FileDescriptorProto {
		return &descriptorpb.FileDescriptorProto{Name: proto.String(name + ".proto"), Package: proto.String(name), Syntax: proto.String("proto3"),
			MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("A"), Field: fields}},
			Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("S"), Method: []*descriptorpb.MethodDescriptorProto{{
				Name: proto.String("Get"), InputType: proto.String("." + name + ".A"), OutputType: proto.String("." + name + ".A")}}}}}
	}
	field := func(number int32, kind string) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{Name: proto.String(fmt.Sprintf("f%d", number)), Number: &number, TypeName: proto.String("." + kind),
			Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
	}
	missing := service("missing", field(1, "absent.B"), field(2, "google.protobuf.Timestamp"), field(3, "absent.C"))
	missing.Dependency = []string{"absent.proto", "google/protobuf/timestamp.proto"}
	placeholder := service("placeholder", field(1, "empty.B"))
	placeholder.Dependency = []string{"empty.proto"}
	wellKnown := service("wellknown", field(1, "google.protobuf.Timestamp"), field(2, "google.protobuf.Any"))
	wellKnown.Dependency = []string{"elsewhere/timestamp.proto", "google/protobuf/any.proto"}
	renamed := service("renamed", field(1, "library.B"))
	renamed.Dependency = []string{"src/library.proto"}
	library := &descriptorpb.FileDescriptorProto{Name: proto.String("library.proto"), Package: proto.String("library"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("B")}}}
	broken := service("broken", field(1, "broken.A"), field(1, "broken.A"))
	files := map[string][]*descriptorpb.FileDescriptorProto{
		"missing.S": {missing}, "placeholder.S": {placeholder}, "wellknown.S": {wellKnown}, "renamed.S": {renamed}, "broken.S": {broken},
		"empty.proto":                {{Name: proto.String("empty.proto"), Package: proto.String("empty")}},
		"google/protobuf/any.proto":  {{Name: proto.String("google/protobuf/any.proto")}},
		"library.B":                  {library},
		"google.protobuf.Timestamp1": nil,
	}
	url := serveReflection(t, func(s *grpc.Server) {
		reflectpb.RegisterServerReflectionServer(s, &reflector{services: []string{"missing.S", "placeholder.S", "wellknown.S", "renamed.S", "broken.S", "absent.S"},
			find: func(file, symbol string) []*descriptorpb.FileDescriptorProto { return files[file+symbol] }})
	})
	log := new(lines)
	_, b := serveBridgeUntil(t, bridge.Config{Upstreams: upstream(t, url)}, log, nil)
	for _, want := range []string{
		`bridge: missing.S cannot be mounted: missing.proto uses absent.B, which no file of the server defines\nmissing.proto uses absent.C, which no file of the server defines`,
		`bridge: placeholder.S cannot be mounted: placeholder.proto uses empty.B, which no file of the server defines`,
		`bridge: broken.S cannot be mounted: broken.proto does not link: `,
		`bridge: absent.S cannot be mounted: the server's reflection does not have absent.S: not found`,
	} {
		await(t, "the log to say "+want, func() bool { return log.has(want) })
	}
	var names []string
	for _, m := range b.Mounts() {
		names = append(names, string(m.Service.FullName()))
	}
	if fmt.Sprint(names) != "[renamed.S wellknown.S]" {
		t.Error("mounted:", names)
	}
}

// silentHealth is a health service whose Watch never answers.
type silentHealth struct {
	healthpb.UnimplementedHealthServer
}

func (silentHealth) Watch(_ *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	<-stream.Context().Done()
	return stream.Context().Err()
}

func TestAHealthWatchThatNeverAnswersKeepsNoCallWaiting(t *testing.T) {
	url := serveReflection(t, func(s *grpc.Server) {
		healthpb.RegisterHealthServer(s, silentHealth{})
		reflectpb.RegisterServerReflectionServer(s, &reflector{services: []string{"grpc.testing.TestService"}, find: testFiles})
	})
	port, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, url)})
	mounted(t, b)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := unary(port, connect.WithGRPC()).CallUnary(ctx, connect.NewRequest(&testgrpc.SimpleRequest{})); err != nil {
		t.Error(err)
	}
}

// A schema that is endless, huge or nested is refused, in little memory and with the reason, and what is
// mounted already is served meanwhile.
func TestAHostileSchema(t *testing.T) {
	large := func(fields int) *descriptorpb.FileDescriptorProto {
		m := &descriptorpb.DescriptorProto{Name: proto.String("A")}
		for i := range fields {
			m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{Name: proto.String(fmt.Sprint("f", i)), Number: proto.Int32(int32(i + 1)),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()})
		}
		return &descriptorpb.FileDescriptorProto{Name: proto.String("large.proto"), Package: proto.String("p"), Syntax: proto.String("proto3"), MessageType: []*descriptorpb.DescriptorProto{m}}
	}
	empty := &descriptorpb.DescriptorProto{Name: proto.String("A")}
	for range 1_000_000 {
		empty.Field = append(empty.Field, &descriptorpb.FieldDescriptorProto{})
	}
	nested := &descriptorpb.DescriptorProto{Name: proto.String("A")}
	for range 5000 {
		nested = &descriptorpb.DescriptorProto{Name: proto.String("A"), NestedType: []*descriptorpb.DescriptorProto{nested}}
	}
	methods := large(1)
	methods.Service = []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("S")}}
	for i := range 10_000 {
		methods.Service[0].Method = append(methods.Service[0].Method, &descriptorpb.MethodDescriptorProto{
			Name: proto.String(fmt.Sprint("M", i)), InputType: proto.String(".p.A"), OutputType: proto.String(".p.A")})
	}
	allowed := large(45_000)
	allowed.Service = []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("S"), Method: methods.Service[0].Method[:1]}}
	next := 0
	for _, test := range []struct {
		name, want string
		find       func(file, symbol string) []*descriptorpb.FileDescriptorProto
	}{
		{"files that import another each, without end", "the schema of a process is not known", func(string, string) []*descriptorpb.FileDescriptorProto {
			next++
			return []*descriptorpb.FileDescriptorProto{{Name: proto.String(fmt.Sprint(next)), Dependency: []string{fmt.Sprint(next + 1)}}}
		}},
		{"more fields than any schema has", "the server's schema is too large", func(string, string) []*descriptorpb.FileDescriptorProto {
			return []*descriptorpb.FileDescriptorProto{large(140_000)}
		}},
		{"fields of two bytes", "the server's schema is too large", func(string, string) []*descriptorpb.FileDescriptorProto {
			return []*descriptorpb.FileDescriptorProto{{Name: proto.String("a.proto"), MessageType: []*descriptorpb.DescriptorProto{empty}}}
		}},
		{"a reply of 40 MiB", "received message larger than max", func(string, string) []*descriptorpb.FileDescriptorProto {
			return []*descriptorpb.FileDescriptorProto{{Name: proto.String(strings.Repeat("x", 40<<20))}}
		}},
		{"messages that are nested", "is no FileDescriptorProto", func(string, string) []*descriptorpb.FileDescriptorProto {
			return []*descriptorpb.FileDescriptorProto{{Name: proto.String("a.proto"), MessageType: []*descriptorpb.DescriptorProto{nested}}}
		}},
		{"as many fields as are accepted", "bridge: mounted", func(string, string) []*descriptorpb.FileDescriptorProto {
			return []*descriptorpb.FileDescriptorProto{allowed}
		}},
		{"more methods than any schema has", "the services of the server have more than 5000 methods", func(string, string) []*descriptorpb.FileDescriptorProto {
			return []*descriptorpb.FileDescriptorProto{methods}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			wire := map[bool][]*descriptorpb.FileDescriptorProto{}
			if !strings.Contains(test.name, "without end") {
				wire[true] = test.find("", "") // made before memory is measured
			}
			url := serveReflection(t, func(s *grpc.Server) {
				reflectpb.RegisterServerReflectionServer(s, &reflector{services: []string{"p.S"}, find: func(file, symbol string) []*descriptorpb.FileDescriptorProto {
					if files := wire[true]; files != nil {
						return files
					}
					return test.find(file, symbol)
				}})
			})
			grew := peakHeap(func() { says(t, bridge.Config{Upstreams: upstream(t, url)}, test.want) })
			t.Logf("the heap, that of the server included, grew by %d MiB", grew)
			if grew > 64 && test.name != "a reply of 40 MiB" { // which the server has, twice
				t.Error("the heap grew by MiB:", grew)
			}
		})
	}
}

// A page cannot send a stream by fetch. What it gets says what to do.
func TestAStreamOfTheClientThatIsCalledAsPlainJSON(t *testing.T) {
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+startServer(t, "").address)})
	mounted(t, b)
	for _, method := range []string{"StreamingInputCall", "FullDuplexCall", "StreamingOutputCall"} {
		reply, err := http.Post(url+testPath+method, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(reply.Body)
		reply.Body.Close()
		if reply.StatusCode != http.StatusUnsupportedMediaType || !strings.Contains(string(text), "application/connect+json") {
			t.Errorf("%s: %s %q %v", method, reply.Status, text, reply.Header)
		}
	}
}
