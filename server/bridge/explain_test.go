package bridge

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// grpcVersion is the version of grpc-go whose texts explain.go and method.error have been read against.
const grpcVersion = "1.83.2"

// grpc-go has no types for the errors that the bridge has to tell apart, so it goes by their texts. A newer
// version that changes one fails here: change what reads the text, and then grpcVersion.
func TestTheTextsOfGRPC(t *testing.T) {
	if grpc.Version != grpcVersion {
		t.Errorf("grpc-go is %s: look whether the texts that explain.go reads are still those, and change grpcVersion from %s", grpc.Version, grpcVersion)
	}
	call := func(address string, server grpc.StreamHandler, options ...grpc.CallOption) *status.Status {
		t.Helper()
		if server != nil {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s := grpc.NewServer(grpc.UnknownServiceHandler(server))
			go s.Serve(listener)
			defer s.Stop()
			address = listener.Addr().String()
		}
		memory := newMemory(0, 0)
		//lint:ignore SA1019 as in upstream.go
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDecompressor(newUnpacker(memory, 4<<20)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		charged := memory.begin(t.Context(), nil)
		defer charged.leave()
		ctx, cancel := charged.with(t.Context())
		defer cancel()
		err = conn.Invoke(ctx, "/a.S/M", new(emptypb.Empty), new(testgrpc.Payload), options...)
		if err == nil {
			t.Fatal("the call succeeded")
		}
		return status.Convert(err)
	}
	serveHTTP := func(handler http.HandlerFunc) string {
		s := httptest.NewUnstartedServer(handler)
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	large := func(_ any, stream grpc.ServerStream) error {
		return stream.SendMsg(&testgrpc.Payload{Body: make([]byte, 1000)})
	}
	t.Run("a reply over the limit", func(t *testing.T) {
		for _, compression := range []string{"identity", "gzip", "deflate"} {
			st := call("", func(srv any, stream grpc.ServerStream) error {
				if err := grpc.SetSendCompressor(stream.Context(), compression); err != nil {
					return err
				}
				return large(srv, stream)
			}, grpc.MaxCallRecvMsgSize(100))
			if !isReplyTooLong(st, 100) {
				t.Error(st)
			}
			if isReplyTooLong(st, 101) {
				t.Error("it is that of another limit:", st)
			}
		}
	})
	t.Run("no gRPC", func(t *testing.T) {
		for what, handler := range map[string]http.HandlerFunc{
			"a status": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnsupportedMediaType) },
			"HTML": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				_, _ = w.Write([]byte("<p>"))
			},
			"no content type": func(w http.ResponseWriter, _ *http.Request) { w.Header()["Content-Type"] = nil },
		} {
			if st := call(serveHTTP(handler), nil); !isNoGRPC(st.Err()) {
				t.Error(what, st)
			}
		}
		if err := status.Error(codes.Unimplemented, "unknown method"); isNoGRPC(err) {
			t.Error(err)
		}
	})
	t.Run("a lost connection", func(t *testing.T) {
		st := call("", func(_ any, stream grpc.ServerStream) error {
			_ = stream.SendHeader(metadata.Pairs("a", "b"))
			return errors.New("unused")
		})
		if isOfConnection(st.Message()) {
			t.Error("the error is the server's:", st)
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		tracking := &tracked{Listener: listener, conns: make(chan net.Conn, 10)}
		s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			tracking.drop()
			<-stream.Context().Done()
			return nil
		}))
		go s.Serve(tracking)
		defer s.Stop()
		if st := call(tracking.Addr().String(), nil); st.Code() != codes.Unavailable || !isOfConnection(st.Message()) {
			t.Error("it was cut:", st)
		}
		tracking.Close()
		if st := call(tracking.Addr().String(), nil); st.Code() != codes.Unavailable || !isOfConnection(st.Message()) {
			t.Error("there is none:", st)
		}
	})
	t.Run("a reply that ends in the middle of a message", func(t *testing.T) {
		st := call(serveHTTP(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			_, _ = w.Write([]byte{0, 0, 0, 0, 9, 1})
			w.Header().Set("Grpc-Status", "0")
		}), nil)
		if !endsInAMessage(st) {
			t.Error(st)
		}
	})
}

// tracked is a listener whose last connection can be cut.
type tracked struct {
	net.Listener
	conns chan net.Conn
}

func (l *tracked) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.conns <- conn
	}
	return conn, err
}

func (l *tracked) drop() { (<-l.conns).Close() }

func TestWhatAServerSendsFirstTellsWhatItIs(t *testing.T) {
	for sent, want := range map[string]string{
		"HTTP/1.1 400 Bad Request":             "it answers in HTTP/1.1, and gRPC needs HTTP/2",
		"\x15\x03\x03\x00\x02\x02\x46":         "it speaks TLS: use a URL that begins with https",
		"":                                     "without a word: it is starting or stopping, or does not speak HTTP/2, which gRPC needs: it may speak HTTP/1.1 alone, or TLS, which needs a URL that begins with https",
		"<!DOCTYPE HTML>":                      "it may speak HTTP/1.1 alone, or TLS, which needs a URL that begins with https",
		"\x00\x00\x00\x04\x00\x00\x00\x00\x00": "",
	} {
		var said error
		tap := newTap(wired{sent: strings.NewReader(sent)}, newMemory(0, 0))
		tap.failed = func(err error) { said = err }
		_, _ = io.Copy(io.Discard, tap)
		_, _ = tap.Read(make([]byte, 10)) // io.Copy does not pass io.EOF on
		if (said == nil) != (want == "") || said != nil && !strings.Contains(said.Error(), want) {
			t.Errorf("%q: %v, want %s", sent, said, want)
		}
	}
}
