package client_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/client"
	"example.com/roster/gen/go/apipb"
	"example.com/roster/gen/go/apipb/apipbconnect"
)

// service is MyService with the users 1 to 3. If health or user is set, it is called first and may
// answer instead.
type service struct {
	health func(context.Context) error
	user   func(context.Context, []int32) (*apipb.UserReply, error)
}

func (s service) Health(ctx context.Context, _ *emptypb.Empty) (*emptypb.Empty, error) {
	if s.health != nil {
		if err := s.health(ctx); err != nil {
			return nil, err
		}
	}
	return &emptypb.Empty{}, nil
}

func (s service) User(ctx context.Context, req *apipb.UserReq) (*apipb.UserReply, error) {
	if s.user != nil {
		if reply, err := s.user(ctx, req.GetUserIDs()); reply != nil || err != nil {
			return reply, err
		}
	}
	known := map[int32]*apipb.User{
		1: {Name: "Ada", Age: 36, Email: "ada@example.com"},
		2: {Name: "Grace", Age: 85, Email: "grace@example.com"},
		3: {Name: "Zoë", Age: 0, Email: ""},
	}
	reply := &apipb.UserReply{Message: "success"}
	for _, id := range req.GetUserIDs() {
		if u, ok := known[id]; ok {
			reply.Data = append(reply.Data, u)
		}
	}
	return reply, nil
}

// handler serves s on a mux, as Roster does.
func handler(s service) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(apipbconnect.NewMyServiceHandler(s))
	return mux
}

// port is a running server.
type port struct {
	url         string
	connections *atomic.Int32 // accepted so far
	certificate *tls.Config   // trusts the server, for https
}

// address is host:port.
func (p port) address() string {
	_, address, _ := strings.Cut(p.url, "://")
	return address
}

// serveHTTP runs h over cleartext HTTP/1.1 and HTTP/2 with prior knowledge.
func serveHTTP(t *testing.T, h http.Handler) port {
	t.Helper()
	return serveProtocols(t, h, true, true)
}

func serveProtocols(t *testing.T, h http.Handler, http1, http2 bool) port {
	t.Helper()
	listener, accepted := listen(t)
	serve(t, listener, h, http1, http2)
	return port{url: "http://" + listener.Addr().String(), connections: accepted}
}

// serveOn runs h on a listener, until the test ends.
func serveOn(t *testing.T, listener net.Listener, h http.Handler) {
	serve(t, listener, h, true, true)
}

func serve(t *testing.T, listener net.Listener, h http.Handler, http1, http2 bool) {
	var protocols http.Protocols
	protocols.SetHTTP1(http1)
	protocols.SetUnencryptedHTTP2(http2)
	server := &http.Server{
		Handler: h, Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second, ErrorLog: quiet(),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conn)
		},
	}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
}

type connKey struct{}

// breakConnection closes the connection of a request.
func breakConnection(r *http.Request) {
	r.Context().Value(connKey{}).(net.Conn).Close()
}

// resetConnection ends the connection of a request with a TCP reset instead of a FIN.
func resetConnection(r *http.Request) {
	conn := r.Context().Value(connKey{}).(*net.TCPConn)
	conn.SetLinger(0)
	conn.Close()
}

// brokenOnce breaks the connection of the first request.
func brokenOnce(calls *atomic.Int32, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			breakConnection(r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// serveTLS runs h over TLS with HTTP/2 (or without it), changed by configure.
func serveTLS(t *testing.T, h http.Handler, http2 bool, configure func(*tls.Config)) port {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.EnableHTTP2 = http2
	server.Config.ErrorLog = quiet()
	server.TLS = &tls.Config{}
	if configure != nil {
		configure(server.TLS)
	}
	var accepted atomic.Int32
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			accepted.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	trust := server.Client().Transport.(*http.Transport).TLSClientConfig
	return port{
		url:         server.URL,
		connections: &accepted,
		certificate: &tls.Config{RootCAs: trust.RootCAs, ServerName: "example.com"},
	}
}

// countingListener counts the connections that it accepts.
type countingListener struct {
	net.Listener
	accepted *atomic.Int32
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return conn, err
}

func listen(t *testing.T) (net.Listener, *atomic.Int32) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepted atomic.Int32
	return countingListener{listener, &accepted}, &accepted
}

// serveRaw passes every connection to serve, which should close it.
func serveRaw(t *testing.T, serve func(net.Conn)) port {
	t.Helper()
	listener, accepted := listen(t)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return port{url: "http://" + listener.Addr().String(), connections: accepted}
}

// dial makes a client that is closed at the end of the test.
func dial(t *testing.T, url string, cfg client.Config) *client.Client {
	t.Helper()
	c, err := client.New(url, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
