package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	grpccredentials "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"example.com/roster/gen/go/apipb"
)

// A caller has a connection of its own to the port, which it keeps between calls.
type caller func(ctx context.Context) error

// grpcCaller is a channel of grpc-go. A call of it fails if it was lost on a connection, but waits for
// a connection, since one may be refused while all others have calls.
func grpcCaller(t *testing.T, address string, config *tls.Config) caller {
	secure := insecure.NewCredentials()
	if config != nil {
		secure = grpccredentials.NewTLS(config)
	}
	channel, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(secure), grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1.2, MaxDelay: 50 * time.Millisecond},
		MinConnectTimeout: 20 * time.Second,
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { channel.Close() })
	return func(ctx context.Context) error {
		reply := new(apipb.UserReply)
		err := channel.Invoke(ctx, "/MyService/User", &apipb.UserReq{UserIDs: []int32{1}}, reply, grpc.WaitForReady(true))
		if err == nil && len(reply.GetData()) != 1 {
			err = fmt.Errorf("got %v", reply)
		}
		return err
	}
}

// httpCaller is a client of net/http, with which Connect for Go calls.
func httpCaller(t *testing.T, address string, http2 bool, config *tls.Config) caller {
	scheme, c := "http", client(t, http2)
	if config != nil {
		scheme, c = "https", tlsClient(t, http2, config.Clone())
	}
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://"+address+"/MyService/User", strings.NewReader(`{"userIDs":[1]}`))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := c.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
			return errors.Join(fmt.Errorf("status %d: %s", response.StatusCode, body), err)
		}
		return nil
	}
}

// Once the port has its maximum of connections, those without a call give way to new ones, and their
// clients connect again when they next call.
func TestIdleConnectionsGiveWay(t *testing.T) {
	certificate, roots := credentials(t)
	for _, secure := range []bool{false, true} {
		for _, standard := range []bool{false, true} {
			config := Config{MaxConnections: 20, StandardHTTP2: standard}
			var trust *tls.Config
			if secure {
				config.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
				trust = &tls.Config{RootCAs: roots}
			}
			for name, dial := range map[string]func(t *testing.T, address string) caller{
				"gRPC":            func(t *testing.T, address string) caller { return grpcCaller(t, address, trust) },
				"Connect, HTTP/2": func(t *testing.T, address string) caller { return httpCaller(t, address, true, trust) },
				"Connect, HTTP/1": func(t *testing.T, address string) caller { return httpCaller(t, address, false, trust) },
			} {
				t.Run(fmt.Sprintf("%s/TLS=%v/standard=%v", name, secure, standard), func(t *testing.T) {
					p := start(t, config, nil)
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					defer cancel()
					graceful := !standard && name != "Connect, HTTP/1"
					call := func(which string, n int, c caller) {
						t.Helper()
						err := c(ctx)
						// Only the engine closes a connection gracefully as soon as it is idle. Another one
						// has to be idle for a moment before it gives way.
						for ctx.Err() == nil && err != nil && !graceful {
							time.Sleep(10 * time.Millisecond)
							err = c(ctx)
						}
						if err != nil {
							t.Fatalf("%s caller %d: %v", which, n, err)
						}
					}
					var callers [40]caller
					for n := range callers {
						callers[n] = dial(t, p.address)
						call("new", n, callers[n])
					}
					for n, c := range callers {
						call("earlier", n, c)
					}
					if refused := p.server.Stats().Connections.Refused(); refused != 0 && graceful {
						t.Errorf("%d connections were refused although others were idle", refused)
					}
				})
			}
		}
	}
}

// No call is lost when connections give way that are just about to be used: a call that crosses the
// GOAWAY of its connection is answered, or the client knows that it may send it again.
func TestNoCallIsLostOnAConnectionThatGivesWay(t *testing.T) {
	for name, dial := range map[string]func(t *testing.T, address string) caller{
		"gRPC":    func(t *testing.T, address string) caller { return grpcCaller(t, address, nil) },
		"Connect": func(t *testing.T, address string) caller { return httpCaller(t, address, true, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, Config{MaxConnections: 5}, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			// The callers take turns, so the next one is the one whose connection gives way next. Never
			// more than three have a call, so that no connection is refused.
			turns := make(chan caller, 7)
			for range cap(turns) {
				turns <- dial(t, p.address)
			}
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() {
					for range 200 {
						call := <-turns
						if err := call(ctx); err != nil {
							t.Error(err)
						}
						turns <- call
					}
				})
			}
			all.Wait()
			connections := &p.server.Stats().Connections
			if accepted, _ := connections.Connections(); accepted < 20 || connections.Refused() != 0 {
				t.Errorf("%d connections were accepted and %d of them refused, want at least 20 and none", accepted, connections.Refused())
			}
		})
	}
}

// An address that has all connections, each with a call, does not keep the others out.
func TestNoAddressKeepsAllHTTP2Connections(t *testing.T) {
	p := start(t, Config{MaxConnections: 4}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	channel := func(address string) *grpc.ClientConn {
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		c, err := grpc.NewClient("passthrough:///"+p.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, to string) (net.Conn, error) { return from.DialContext(ctx, "tcp", to) }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	var watches []healthv1.Health_WatchClient
	for range 4 {
		watch, err := healthv1.NewHealthClient(channel("127.0.0.1")).Watch(ctx, &healthv1.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := watch.Recv(); err != nil {
			t.Fatal(err)
		}
		watches = append(watches, watch)
	}
	for n := range 3 {
		watch, err := healthv1.NewHealthClient(channel(fmt.Sprintf("127.0.0.%d", 2+n))).Watch(ctx, &healthv1.HealthCheckRequest{})
		if err == nil {
			_, err = watch.Recv()
		}
		if err != nil {
			t.Errorf("address %d of those that come later: %v", n, err)
		}
		if _, err := watches[n].Recv(); err == nil {
			t.Errorf("the connection that came as number %d is still open", n)
		}
	}
	// Each address has one now, so none gives way. The log says who is refused.
	_, err := healthv1.NewHealthClient(channel("127.0.0.9")).Check(ctx, &healthv1.HealthCheckRequest{})
	if status.Code(err) != codes.Unavailable || p.server.Stats().Connections.Refused() == 0 || !strings.Contains(p.log.String(), "remote=127.0.0.9:") {
		t.Errorf("the fifth address: %v, log:\n%s", err, p.log)
	}
}
