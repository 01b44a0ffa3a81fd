package client_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/client"
	"example.com/roster/gen/go/apipb"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// configs returns all combinations of protocol, codec and compression.
func configs() []client.Config {
	var all []client.Config
	for _, protocol := range []client.Protocol{client.GRPC, client.GRPCWeb, client.Connect} {
		for _, json := range []bool{false, true} {
			for _, gzip := range []bool{false, true} {
				all = append(all, client.Config{Protocol: protocol, JSON: json, Gzip: gzip})
			}
		}
	}
	return all
}

func name(cfg client.Config) string {
	codec, compression := "proto", "identity"
	if cfg.JSON {
		codec = "json"
	}
	if cfg.Gzip {
		compression = "gzip"
	}
	return fmt.Sprintf("%v %s %s", cfg.Protocol, codec, compression)
}

// contentType is the content type that requests of this configuration must have.
func contentType(cfg client.Config) string {
	codec := "proto"
	if cfg.JSON {
		codec = "json"
	}
	switch {
	case cfg.Protocol == client.Connect:
		return "application/" + codec
	case cfg.Protocol == client.GRPCWeb:
		return "application/grpc-web+" + codec
	case codec == "json":
		return "application/grpc+json"
	default:
		return "application/grpc"
	}
}

func TestEveryProtocolCodecAndCompression(t *testing.T) {
	var last atomic.Pointer[http.Request]
	recorded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last.Store(r)
		handler(service{}).ServeHTTP(w, r)
	})
	plain := serveHTTP(t, recorded)
	secure := serveTLS(t, recorded, true, nil)

	for _, cfg := range configs() {
		for _, server := range []port{plain, secure} {
			scheme, _, _ := strings.Cut(server.url, ":")
			t.Run(name(cfg)+" "+scheme, func(t *testing.T) {
				cfg.TLS = server.certificate
				c := dial(t, server.url, cfg)
				ctx := within(t, 5*time.Second)
				if err := c.WaitReady(ctx); err != nil {
					t.Fatal(err)
				}
				if err := c.Health(ctx); err != nil {
					t.Fatal(err)
				}
				got, err := c.Users(ctx, []int32{2, 99, 1, -5, 2, 3})
				if err != nil {
					t.Fatal(err)
				}
				want := []client.User{
					{Name: "Grace", Age: 85, Email: "grace@example.com"},
					{Name: "Ada", Age: 36, Email: "ada@example.com"},
					{Name: "Grace", Age: 85, Email: "grace@example.com"},
					{Name: "Zoë"},
				}
				if !slices.Equal(got, want) {
					t.Errorf("Users = %v, want %v", got, want)
				}

				r := last.Load()
				if r.ProtoMajor != 2 {
					t.Errorf("the request came in %s, want HTTP/2", r.Proto)
				}
				if got := r.Header.Get("Content-Type"); got != contentType(cfg) {
					t.Errorf("Content-Type = %q, want %q", got, contentType(cfg))
				}
				encoding := r.Header.Get("Grpc-Encoding") + r.Header.Get("Content-Encoding")
				if (encoding == "gzip") != cfg.Gzip {
					t.Errorf("the request's encoding is %q, want gzip: %v", encoding, cfg.Gzip)
				}
				if n := server.connections.Load(); n < 1 {
					t.Errorf("%d connections", n)
				}
			})
		}
	}
}

func TestNoIDsGiveNoUsers(t *testing.T) {
	server := serveHTTP(t, handler(service{}))
	for _, cfg := range configs() {
		got, err := dial(t, server.url, cfg).Users(within(t, 5*time.Second), nil)
		if err != nil || got == nil || len(got) != 0 {
			t.Errorf("%s: Users = %v, %v, want an empty slice", name(cfg), got, err)
		}
	}
}

func TestManyConcurrentCallsShareAConnection(t *testing.T) {
	for _, tc := range []struct {
		name           string
		calls          int
		maxConnections int32
	}{
		// A client may open 100 streams until the server's SETTINGS say how many it allows;
		// net/http's server allows 250, but its SETTINGS may arrive late.
		{"as many as fit", 100, 1},
		{"more than fit", 1000, 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := serveHTTP(t, handler(service{health: func(context.Context) error {
				time.Sleep(20 * time.Millisecond)
				return nil
			}}))
			c := dial(t, server.url, client.Config{})
			ctx := within(t, 20*time.Second)
			for range 2 {
				var wg sync.WaitGroup
				for range tc.calls {
					wg.Go(func() {
						if err := c.Health(ctx); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
			}
			if n := server.connections.Load(); n > tc.maxConnections {
				t.Errorf("%d connections, want %d at most", n, tc.maxConnections)
			}
		})
	}
}

func TestTheDeadlineTravels(t *testing.T) {
	var left atomic.Int64
	server := serveHTTP(t, handler(service{user: func(ctx context.Context, _ []int32) (*apipb.UserReply, error) {
		deadline, ok := ctx.Deadline()
		if !ok {
			left.Store(-1)
			return nil, nil
		}
		left.Store(int64(time.Until(deadline)))
		return nil, nil
	}}))
	for _, protocol := range []client.Protocol{client.GRPC, client.GRPCWeb, client.Connect} {
		c := dial(t, server.url, client.Config{Protocol: protocol})
		if _, err := c.Users(within(t, 30*time.Second), []int32{1}); err != nil {
			t.Fatal(err)
		}
		if got := time.Duration(left.Load()); got < 20*time.Second || got > 30*time.Second {
			t.Errorf("%v: the server saw %v left, want nearly 30s", protocol, got)
		}
		if _, err := c.Users(context.Background(), []int32{1}); err != nil {
			t.Fatal(err)
		}
		if got := left.Load(); got != -1 {
			t.Errorf("%v: the server saw a deadline in %v, want none", protocol, time.Duration(got))
		}
	}
}

func TestACallEndsAtItsDeadline(t *testing.T) {
	stopped := make(chan struct{}, 3)
	server := serveHTTP(t, handler(service{user: func(ctx context.Context, _ []int32) (*apipb.UserReply, error) {
		<-ctx.Done()
		stopped <- struct{}{}
		return nil, ctx.Err()
	}}))
	for _, protocol := range []client.Protocol{client.GRPC, client.GRPCWeb, client.Connect} {
		c := dial(t, server.url, client.Config{Protocol: protocol})
		start := time.Now()
		_, err := c.Users(within(t, 100*time.Millisecond), []int32{1})
		expect(t, err, client.ReasonNoAnswer, connect.CodeDeadlineExceeded)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("%v: a call of 100ms took %v", protocol, took)
		}
		select {
		case <-stopped:
		case <-time.After(5 * time.Second):
			t.Errorf("%v: the server did not drop the work", protocol)
		}
	}
}

func TestACancelledCallEndsAtOnce(t *testing.T) {
	server := serveHTTP(t, handler(service{user: func(ctx context.Context, _ []int32) (*apipb.UserReply, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}))
	c := dial(t, server.url, client.Config{})
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := c.Users(ctx, []int32{1})
	expect(t, err, client.ReasonCanceled, connect.CodeCanceled)
	expectIs(t, err, context.Canceled)

	_, err = c.Users(ctx, []int32{1})
	expect(t, err, client.ReasonCanceled, connect.CodeCanceled)
}

func TestCallsAfterCloseFail(t *testing.T) {
	server := serveHTTP(t, handler(service{}))
	c := dial(t, server.url, client.Config{})
	if err := c.Health(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	c.Close()
	_, err := c.Users(within(t, 5*time.Second), []int32{1})
	expect(t, err, client.ReasonCanceled, connect.CodeCanceled)
	expectText(t, err, "the client is closed")
	expect(t, c.WaitReady(within(t, 5*time.Second)), client.ReasonCanceled, connect.CodeCanceled)
}

func TestAServerThatComesBackIsFound(t *testing.T) {
	start := func(listener net.Listener) *http.Server {
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		server := &http.Server{Handler: handler(service{}), Protocols: &protocols, ReadHeaderTimeout: time.Second}
		go server.Serve(listener)
		return server
	}
	listener, _ := listen(t)
	address := listener.Addr().String()
	c := dial(t, "http://"+address, client.Config{})
	server := start(listener)
	for range 5 {
		if _, err := c.Users(within(t, 5*time.Second), []int32{1}); err != nil {
			t.Fatal(err)
		}
		server.Close()
		expect(t, c.Health(within(t, 5*time.Second)), client.ReasonNothingListens, connect.CodeUnavailable)

		restarted := make(chan *http.Server)
		go func() {
			time.Sleep(100 * time.Millisecond)
			listener, err := relisten(address)
			if err != nil {
				t.Error(err)
				close(restarted)
				return
			}
			restarted <- start(listener)
		}()
		ready := make(chan error, 1)
		go func() { ready <- c.WaitReady(within(t, 10*time.Second)) }()
		if server = <-restarted; server == nil {
			t.FailNow()
		}
		if err := <-ready; err != nil {
			t.Fatal(err)
		}
	}
	server.Close()
}

func TestAddresses(t *testing.T) {
	for _, tc := range []struct {
		address string
		cfg     client.Config
		wantErr string // "" when it is accepted
	}{
		{address: "localhost:50051"},
		{address: "http://localhost:50051"},
		{address: "http://localhost:50051/"},
		{address: "https://roster.example.com"},
		{address: "https://roster.example.com/behind/a/prefix", cfg: client.Config{TLS: &tls.Config{}}},
		{address: "[::1]:50051"},
		{address: "10.0.0.1:80"},
		{address: "", wantErr: "is empty; give one like http://localhost:50051"},
		{address: ":50051", wantErr: "names no host"},
		{address: "http://", wantErr: "names no host"},
		{address: "localhost:", wantErr: "names no port"},
		{address: "localhost:http", wantErr: "is not a URL"},
		{address: "localhost:0", wantErr: "from 1 to 65535"},
		{address: "localhost:99999", wantErr: "from 1 to 65535"},
		{address: "dns:///localhost:50051"},
		{address: "grpc://localhost:50051", wantErr: "the scheme grpc is not supported"},
		{address: "http://me:secret@localhost:50051", wantErr: "must not contain a user name"},
		{address: "http://localhost:50051?x=1", wantErr: "must not contain a query"},
		{address: "http://localhost:50051/#top", wantErr: "must not contain a query or a fragment"},
		{address: "http://local host:50051", wantErr: "is not a URL"},
		{address: "http://localhost:50051", cfg: client.Config{TLS: &tls.Config{}}, wantErr: "use https://"},
		{address: "localhost:50051", cfg: client.Config{Protocol: 7}, wantErr: "unknown Protocol(7)"},
	} {
		c, err := client.New(tc.address, tc.cfg)
		if err == nil {
			c.Close()
		}
		switch {
		case tc.wantErr == "" && err != nil:
			t.Errorf("New(%q) = %v", tc.address, err)
		case tc.wantErr != "" && err == nil:
			t.Errorf("New(%q) succeeded, want an error with %q", tc.address, tc.wantErr)
		case tc.wantErr != "":
			expectText(t, err, tc.wantErr)
		}
	}
}

func TestABareAddressMeansPlainHTTP(t *testing.T) {
	server := serveHTTP(t, handler(service{}))
	if err := dial(t, server.address(), client.Config{}).Health(within(t, 5*time.Second)); err != nil {
		t.Error(err)
	}
}

func TestAPathPrefixIsKept(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/behind/", http.StripPrefix("/behind", handler(service{})))
	server := serveHTTP(t, mux)
	if err := dial(t, server.url+"/behind/", client.Config{}).Health(within(t, 5*time.Second)); err != nil {
		t.Error(err)
	}
}

func TestParseProtocol(t *testing.T) {
	for _, p := range []client.Protocol{client.GRPC, client.GRPCWeb, client.Connect} {
		if got, err := client.ParseProtocol(p.String()); got != p || err != nil {
			t.Errorf("ParseProtocol(%q) = %v, %v", p, got, err)
		}
	}
	_, err := client.ParseProtocol("http")
	expectText(t, err, `unknown protocol "http": use grpc, grpcweb or connect`)
}
