package main

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"

	"example.com/roster/server"
	"example.com/roster/server/bridge"
	"example.com/roster/server/service"
)

// serveInterop starts a server of grpc's interoperability tests and returns its address.
func serveInterop(t *testing.T) string {
	t.Helper()
	s := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(s, interop.NewTestServer())
	healthpb.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s)
	listener := listen(t)
	go s.Serve(listener)
	t.Cleanup(s.Stop)
	return listener.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// serveBridge starts a port that has nothing but a bridge, waits until it has as many services, and
// returns its address.
func serveBridge(t *testing.T, config bridge.Config, services int) (address string, b *bridge.Bridge) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	config.Log, config.Options = log, service.HandlerOptions(log)
	b, err := bridge.New(config)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(server.Config{WithoutDirectory: true, Unknown: b.Unknown, Log: log, Local: true, DrainTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	listener := listen(t)
	ctx, stop := context.WithCancel(context.Background())
	served, bridged := make(chan error, 1), make(chan struct{})
	go func() { served <- srv.Serve(ctx, listener) }()
	go func() { b.Run(ctx, srv); close(bridged) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		<-bridged
	})
	await(t, "the services to be mounted", func() bool { return len(b.Mounts()) >= services })
	return listener.Addr().String(), b
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

func upstream(t *testing.T, text string) bridge.Upstream {
	t.Helper()
	u, err := bridge.ParseUpstream(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestInteroperability(t *testing.T) {
	address, _ := serveBridge(t, bridge.Config{Upstreams: []bridge.Upstream{upstream(t, "http://"+serveInterop(t))}}, 1)
	conn := dial(t, address)
	client := testgrpc.NewTestServiceClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for name, do := range map[string]func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption){
		"empty_unary":                 interop.DoEmptyUnaryCall,
		"large_unary":                 interop.DoLargeUnaryCall,
		"client_streaming":            interop.DoClientStreaming,
		"server_streaming":            interop.DoServerStreaming,
		"ping_pong":                   interop.DoPingPong,
		"empty_stream":                interop.DoEmptyStream,
		"timeout_on_sleeping_server":  interop.DoTimeoutOnSleepingServer,
		"cancel_after_begin":          interop.DoCancelAfterBegin,
		"cancel_after_first_response": interop.DoCancelAfterFirstResponse,
		"custom_metadata":             interop.DoCustomMetadata,
		"status_code_and_message":     interop.DoStatusCodeAndMessage,
		"special_status_message":      interop.DoSpecialStatusMessage,
		"unimplemented_method": func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption) {
			interop.DoUnimplementedMethod(ctx, conn)
		},
	} {
		t.Run(name, func(*testing.T) { do(ctx, client) })
	}
}
