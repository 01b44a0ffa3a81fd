package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/client"
	"example.com/roster/gen/go/apipb"
	"example.com/roster/server/tlsfile/certtest"
)

// serveGRPCGo runs s on grpc-go, with at most two streams on a connection.
func serveGRPCGo(t *testing.T, s service, secure bool) (port, *grpc.Server) {
	t.Helper()
	options := []grpc.ServerOption{grpc.MaxConcurrentStreams(2)}
	p := port{}
	scheme := "http"
	if secure {
		pair := certtest.SelfSigned(t)
		certificate, err := tls.X509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pair.Cert)
		p.certificate = &tls.Config{RootCAs: roots, ServerName: "localhost"}
		options = append(options, grpc.Creds(credentials.NewServerTLSFromCert(&certificate)))
		scheme = "https"
	}
	server := grpc.NewServer(options...)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "MyService",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			{MethodName: "Health", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				request := &emptypb.Empty{}
				if err := decode(request); err != nil {
					return nil, err
				}
				return s.Health(ctx, request)
			}},
			{MethodName: "User", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				request := &apipb.UserReq{}
				if err := decode(request); err != nil {
					return nil, err
				}
				return s.User(ctx, request)
			}},
		},
	}, s)
	listener, accepted := listen(t)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	p.url, p.connections = scheme+"://"+listener.Addr().String(), accepted
	return p, server
}

// slow is a Health that takes longer than any caller waits.
func slow(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestGRPCGo(t *testing.T) {
	for name, secure := range map[string]bool{"cleartext": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Run("streams beyond the server's maximum wait", func(t *testing.T) {
				server, _ := serveGRPCGo(t, service{user: func(context.Context, []int32) (*apipb.UserReply, error) {
					time.Sleep(5 * time.Millisecond)
					return nil, nil
				}}, secure)
				c := dial(t, server.url, client.Config{TLS: server.certificate})
				var callers sync.WaitGroup
				for range 30 {
					callers.Go(func() {
						if users, err := c.Users(within(t, 30*time.Second), []int32{1, 2}); err != nil || len(users) != 2 {
							t.Errorf("%d users, %v", len(users), err)
						}
					})
				}
				callers.Wait()
			})
			// grpc-go resets the stream of a call whose deadline has passed, sometimes before the client's
			// own timer fires.
			t.Run("slow", func(t *testing.T) {
				server, _ := serveGRPCGo(t, service{health: slow}, secure)
				var callers sync.WaitGroup
				for range 20 {
					c := dial(t, server.url, client.Config{TLS: server.certificate})
					callers.Go(func() {
						err := c.Health(within(t, time.Second))
						var failure *client.Error
						if !errors.As(err, &failure) || failure.Reason != client.ReasonNoAnswer || connect.CodeOf(err) != connect.CodeDeadlineExceeded {
							t.Errorf("%v, want that it did not answer in time", err)
						}
					})
				}
				callers.Wait()
			})
			t.Run("dying", func(t *testing.T) {
				entered := make(chan struct{}, 1)
				server, process := serveGRPCGo(t, service{health: func(ctx context.Context) error {
					entered <- struct{}{}
					return slow(ctx)
				}}, secure)
				go func() { <-entered; process.Stop() }()
				err := dial(t, server.url, client.Config{TLS: server.certificate}).Health(within(t, 30*time.Second))
				var failure *client.Error
				if !errors.As(err, &failure) || connect.CodeOf(err) != connect.CodeUnavailable || failure.Reason.Lasts() {
					t.Errorf("%v, want one that another attempt may mend", err)
				}
			})
			t.Run("its own deadline", func(t *testing.T) {
				server, _ := serveGRPCGo(t, service{health: func(context.Context) error {
					return status.Error(codes.DeadlineExceeded, "the database took too long")
				}}, secure)
				err := dial(t, server.url, client.Config{TLS: server.certificate}).Health(within(t, 30*time.Second))
				expect(t, err, client.ReasonServerError, connect.CodeDeadlineExceeded)
				expectText(t, err, "the database took too long")
			})
			for _, config := range []client.Config{{Protocol: client.Connect}, {Protocol: client.GRPCWeb}, {Protocol: client.Connect, JSON: true}} {
				t.Run("called in "+config.Protocol.String(), func(t *testing.T) {
					server, _ := serveGRPCGo(t, service{}, secure)
					config.TLS = server.certificate
					err := dial(t, server.url, config).Health(within(t, 30*time.Second))
					if failure := (*client.Error)(nil); !errors.As(err, &failure) || failure.Reason != client.ReasonWrongProtocol {
						t.Errorf("%v, want that it speaks gRPC", err)
					}
				})
			}
		})
	}
}

// serveFrames passes each request to answer, which writes frames as some server does.
func serveFrames(t *testing.T, answer func(framer *http2.Framer, stream uint32, header map[string]string)) port {
	t.Helper()
	return serveRaw(t, func(conn net.Conn) {
		defer conn.Close()
		if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		framer := http2.NewFramer(conn, conn)
		framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		if framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2}) != nil {
			return
		}
		headers := make(map[uint32]map[string]string)
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *http2.SettingsFrame:
				if !frame.IsAck() {
					framer.WriteSettingsAck()
				}
			case *http2.MetaHeadersFrame:
				header := make(map[string]string)
				for _, field := range frame.Fields {
					header[field.Name] = field.Value
				}
				headers[frame.StreamID] = header
			case *http2.DataFrame:
				if frame.StreamEnded() {
					answer(framer, frame.StreamID, headers[frame.StreamID])
				}
			}
		}
	})
}

// header encodes a header block.
func header(fields ...string) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return block.Bytes()
}

// timeoutOf reads the deadline that a caller sent with gRPC.
func timeoutOf(header map[string]string) time.Duration {
	text := header["grpc-timeout"]
	n, _ := strconv.Atoi(text[:len(text)-1])
	return time.Duration(n) * map[byte]time.Duration{
		'n': time.Nanosecond, 'u': time.Microsecond, 'm': time.Millisecond, 'S': time.Second,
	}[text[len(text)-1]]
}

// A server that resets the stream when the deadline has passed, by its own clock and so perhaps a
// little before the caller's.
func TestAResetAtTheDeadlineIsADeadline(t *testing.T) {
	for _, code := range []http2.ErrCode{http2.ErrCodeCancel, http2.ErrCodeNo, http2.ErrCodeInternal} {
		for _, early := range []time.Duration{0, 3 * time.Millisecond} {
			t.Run(code.String()+" "+early.String(), func(t *testing.T) {
				t.Parallel()
				server := serveFrames(t, func(framer *http2.Framer, stream uint32, header map[string]string) {
					time.Sleep(timeoutOf(header) - early)
					framer.WriteRSTStream(stream, code)
				})
				err := dial(t, server.url, client.Config{}).Health(within(t, time.Second))
				expect(t, err, client.ReasonNoAnswer, connect.CodeDeadlineExceeded)
				err = dial(t, server.url, client.Config{}).WaitReady(within(t, 3*time.Second))
				expect(t, err, client.ReasonNoAnswer, connect.CodeDeadlineExceeded)
			})
		}
	}
}

// A reset long before is none.
func TestAResetBeforeTheDeadlineIsAnError(t *testing.T) {
	for code, want := range map[http2.ErrCode]struct {
		reason client.Reason
		code   connect.Code
	}{
		http2.ErrCodeCancel:          {client.ReasonServerError, connect.CodeCanceled},
		http2.ErrCodeInternal:        {client.ReasonServerError, connect.CodeInternal},
		http2.ErrCodeEnhanceYourCalm: {client.ReasonServerError, connect.CodeResourceExhausted},
	} {
		t.Run(code.String(), func(t *testing.T) {
			server := serveFrames(t, func(framer *http2.Framer, stream uint32, _ map[string]string) {
				framer.WriteRSTStream(stream, code)
			})
			expect(t, dial(t, server.url, client.Config{}).Health(within(t, 30*time.Second)), want.reason, want.code)
		})
	}
}

// The code that a server sends counts, whatever becomes of the stream after it.
func TestTheCodeComesBeforeTheReset(t *testing.T) {
	server := serveFrames(t, func(framer *http2.Framer, stream uint32, _ map[string]string) {
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndHeaders: true, BlockFragment: header(
			":status", "200", "content-type", "application/grpc", "grpc-status", "16", "grpc-message", "who are you?")})
		framer.WriteRSTStream(stream, http2.ErrCodeInternal)
	})
	err := dial(t, server.url, client.Config{}).Health(within(t, 30*time.Second))
	expect(t, err, client.ReasonUnauthenticated, connect.CodeUnauthenticated)
	expectText(t, err, "who are you?")
}

// A deadline of the server's own is its answer: it did answer in time. WaitReady waits nevertheless,
// since it may pass.
func TestAServersOwnDeadline(t *testing.T) {
	calls := 0
	server := serveHTTP(t, handler(service{health: func(context.Context) error {
		if calls++; calls > 3 {
			return nil
		}
		return connect.NewError(connect.CodeDeadlineExceeded, errors.New("the store did not answer in 1ms"))
	}}))
	c := dial(t, server.url, client.Config{})
	err := c.Health(within(t, 30*time.Second))
	expect(t, err, client.ReasonServerError, connect.CodeDeadlineExceeded)
	if strings.Contains(err.Error(), "did not answer in time") {
		t.Error(err)
	}
	if err := c.WaitReady(within(t, 30*time.Second)); err != nil {
		t.Error(err)
	}
}

// grpc-js and grpclib answer other protocols with 415 and nothing else.
func TestA415OfAServerThatSpeaksOnlyGRPC(t *testing.T) {
	grpcOnly := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if mediaType := r.Header.Get("Content-Type"); mediaType != "application/grpc" && mediaType != "application/grpc+proto" {
			w.WriteHeader(http.StatusUnsupportedMediaType)
			return
		}
		handler(service{}).ServeHTTP(w, r)
	})
	server := serveHTTP(t, grpcOnly)
	for _, config := range []client.Config{
		{Protocol: client.Connect}, {Protocol: client.Connect, JSON: true}, {Protocol: client.GRPCWeb}, {JSON: true},
	} {
		err := dial(t, server.url, config).Health(within(t, 30*time.Second))
		var failure *client.Error
		if !errors.As(err, &failure) || failure.Reason != client.ReasonWrongProtocol {
			t.Errorf("%v: %v", config.Protocol, err)
		}
		expectText(t, err, "grpc")
	}
	other := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnsupportedMediaType)
	}))
	err := dial(t, other.url, client.Config{Protocol: client.Connect}).Health(within(t, 30*time.Second))
	expect(t, err, client.ReasonNotRPC, connect.CodeUnknown)
}

// What a server says may be meant for the terminal (CWE-150).
func TestErrorsHaveNoControlCharacters(t *testing.T) {
	const evil = "bad\x1b[2J\x1b]0;owned\a\r\nroster: all is well \u009b31m \u202e"
	server := serveHTTP(t, handler(service{health: func(context.Context) error {
		return connect.NewError(connect.CodeInternal, errors.New(evil))
	}}))
	for _, protocol := range []client.Protocol{client.GRPC, client.GRPCWeb, client.Connect} {
		err := dial(t, server.url, client.Config{Protocol: protocol}).Health(within(t, 30*time.Second))
		if strings.ContainsAny(err.Error(), "\x1b\a\r\n\u009b\u202e") {
			t.Errorf("%v: %q", protocol, err)
		}
		expectText(t, err, `bad\x1b[2J`)
	}
	odd := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/\u009b31m")
		w.WriteHeader(http.StatusNotFound)
	}))
	err := dial(t, odd.url, client.Config{}).Health(within(t, 30*time.Second))
	if strings.ContainsAny(err.Error(), "\x1b\u009b") {
		t.Errorf("%q", err)
	}
}
