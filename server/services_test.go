package server

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	"example.com/roster/gen/go/grpc/health/v1/healthv1connect"
	"example.com/roster/internal/inflate"
)

const (
	serving    = healthv1.HealthCheckResponse_SERVING
	notServing = healthv1.HealthCheckResponse_NOT_SERVING
	unknown    = healthv1.HealthCheckResponse_SERVICE_UNKNOWN
)

// storedPort is a port whose store's file can be moved away.
func storedPort(t *testing.T, config Config) (p *port, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "roster.db")
	store, err := sqlite.Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	config.Directory, err = directory.New(t.Context(), store, directory.Config{PollInterval: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(config.Directory.Close)
	return start(t, config, nil), file
}

func (p *port) health() healthv1connect.HealthClient {
	return healthv1connect.NewHealthClient(client(p.t, true), "http://"+p.address, connect.WithGRPC())
}

func check(t *testing.T, health healthv1connect.HealthClient, service string) healthv1.HealthCheckResponse_ServingStatus {
	t.Helper()
	reply, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
	if err != nil {
		t.Fatalf("%q: %v", service, err)
	}
	return reply.GetStatus()
}

// A watch is a call of Watch whose messages come one by one.
type watch struct {
	t      *testing.T
	stream *connect.ServerStreamForClient[healthv1.HealthCheckResponse]
}

func watching(t *testing.T, health healthv1connect.HealthClient, service string) watch {
	t.Helper()
	stream, err := health.Watch(t.Context(), &healthv1.HealthCheckRequest{Service: service})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stream.Close() })
	return watch{t, stream}
}

func (w watch) want(status healthv1.HealthCheckResponse_ServingStatus) {
	w.t.Helper()
	if !w.stream.Receive() {
		w.t.Fatalf("the watch ended: %v, want %v", w.stream.Err(), status)
	}
	if got := w.stream.Msg().GetStatus(); got != status {
		w.t.Fatalf("got %v, want %v", got, status)
	}
}

func (w watch) wantEnd(code connect.Code, words string) {
	w.t.Helper()
	if w.stream.Receive() {
		w.t.Fatalf("got %v, want the end", w.stream.Msg().GetStatus())
	}
	if err := w.stream.Err(); connect.CodeOf(err) != code || !strings.Contains(err.Error(), words) {
		w.t.Fatalf("ended with %v, want %v %q", err, code, words)
	}
}

func TestHealthOfEachService(t *testing.T) {
	p := start(t, Config{}, nil)
	health := p.health()
	list, err := health.List(t.Context(), &healthv1.HealthListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"", "MyService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection", "roster.v1.DirectoryService"}
	for _, service := range want {
		if got := check(t, health, service); got != serving {
			t.Errorf("Check(%q) is %v", service, got)
		}
		if got := list.GetStatuses()[service].GetStatus(); got != serving {
			t.Errorf("List has %q as %v", service, got)
		}
	}
	if names := slices.Sorted(maps.Keys(list.GetStatuses())); !slices.Equal(names, want) {
		t.Errorf("List has %q", names)
	}
	_, err = health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "myservice"})
	if connect.CodeOf(err) != connect.CodeNotFound || !strings.Contains(err.Error(), `no service "myservice"`) {
		t.Errorf("an unknown service: %v", err)
	}
	_, err = health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: strings.Repeat("x", 1500)})
	if connect.CodeOf(err) != connect.CodeNotFound || len(err.Error()) > 1000 {
		t.Errorf("a service with a long name: %.2000v", err)
	}
	_, err = health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: strings.Repeat("x", 1<<20)})
	if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "longer than 2048 bytes") {
		t.Errorf("a service with a name of a megabyte: %.2000v", err)
	}
	watching(t, health, "myservice").want(unknown)
}

func TestHealthFollowsTheStore(t *testing.T) {
	p, file := storedPort(t, Config{})
	health := p.health()
	overall, mine, own := watching(t, health, ""), watching(t, health, "MyService"), watching(t, health, healthv1connect.HealthName)
	overall.want(serving)
	mine.want(serving)
	own.want(serving)
	for range 3 {
		if err := os.Rename(file, file+".away"); err != nil {
			t.Fatal(err)
		}
		overall.want(notServing)
		mine.want(notServing)
		if got := check(t, health, "MyService"); got != notServing {
			t.Errorf("Check is %v", got)
		}
		// Services that need no store are not affected.
		if got := check(t, health, healthv1connect.HealthName); got != serving {
			t.Errorf("Check of health itself is %v", got)
		}
		if err := os.Rename(file+".away", file); err != nil {
			t.Fatal(err)
		}
		overall.want(serving)
		mine.want(serving)
	}
}

func TestHealthOfAPortThatDrains(t *testing.T) {
	p := start(t, Config{}, nil)
	state := p.server.Drain()
	health := p.health()
	overall, none := watching(t, health, ""), watching(t, health, "none")
	overall.want(serving)
	none.want(unknown)
	state.Begin()
	for _, service := range []string{"", "MyService", healthv1connect.HealthName} {
		if got := check(t, health, service); got != notServing {
			t.Errorf("Check(%q) is %v", service, got)
		}
	}
	overall.want(notServing)
	watching(t, health, "MyService").want(notServing)
	state.Close()
	overall.wantEnd(connect.CodeUnavailable, "restarted")
	none.wantEnd(connect.CodeUnavailable, "restarted")
	watching(t, health, "").wantEnd(connect.CodeUnavailable, "restarted")
}

// A port that is closed at once still says NOT_SERVING to its watches first, and does not wait for
// them.
func TestWatchesEndWithThePort(t *testing.T) {
	for _, standard := range []bool{false, true} {
		p := start(t, Config{StandardHTTP2: standard}, nil)
		watch := watching(t, p.health(), "")
		watch.want(serving)
		stopped := make(chan error, 1)
		go func() { stopped <- p.stop() }()
		watch.want(notServing)
		watch.wantEnd(connect.CodeUnavailable, "restarted")
		if err := <-stopped; err != nil {
			t.Errorf("standard %v: %v", standard, err)
		}
	}
}

func TestWatchesAreBounded(t *testing.T) {
	p := start(t, Config{MaxWatches: 2}, nil)
	health := p.health()
	first := watching(t, health, "")
	first.want(serving)
	second := watching(t, health, "")
	second.want(serving)
	watching(t, health, "").wantEnd(connect.CodeResourceExhausted, "2 calls of /grpc.health.v1.Health/Watch are open, the maximum of this server (--max-watches)")
	// A client that leaves makes room for another, and leaves nothing behind.
	before := runtime.NumGoroutine()
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		second.stream.Close()
		for {
			stream, err := health.Watch(ctx, &healthv1.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if stream.Receive() {
				second = watch{t, stream}
				break
			}
			stream.Close()
		}
		defer cancel()
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+10; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// A Check makes no query.
func TestACheckAsksNobody(t *testing.T) {
	counting := &countingStore{}
	dir, err := directory.New(t.Context(), counting, directory.Config{PollInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	health := start(t, Config{Directory: dir}, nil).health()
	for range 10 {
		check(t, health, "")
	}
	if counting.asked != 1 {
		t.Errorf("the store was asked %d times", counting.asked)
	}
}

type countingStore struct {
	directory.Store
	asked int
}

func (c *countingStore) State(context.Context) (directory.State, error) {
	c.asked++
	return directory.State{Epoch: "e", Revision: 1}, nil
}

func TestReflection(t *testing.T) {
	p := start(t, Config{}, nil)
	stream := grpcreflect.NewClient(client(t, true), "http://"+p.address, connect.WithGRPC()).NewStream(t.Context())
	names, err := stream.ListServices()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(names, "MyService") || !slices.Contains(names, "grpc.reflection.v1alpha.ServerReflection") {
		t.Errorf("got %q", names)
	}
	for _, name := range names {
		if _, err := stream.FileContainingSymbol(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := stream.Close(); err != nil {
		t.Error(err)
	}
}

func TestReflectionIsBounded(t *testing.T) {
	p := start(t, Config{}, nil)
	http := client(t, true)
	open := func() *grpcreflect.ClientStream {
		return grpcreflect.NewClient(http, "http://"+p.address, connect.WithGRPC()).NewStream(t.Context())
	}
	var streams []*grpcreflect.ClientStream
	for range 100 {
		stream := open()
		if _, err := stream.ListServices(); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, stream)
	}
	_, err := open().ListServices()
	if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "100 calls of /grpc.reflection.v1.ServerReflection/ServerReflectionInfo are open") {
		t.Errorf("one too many: %v", err)
	}
	// Open calls do not delay the end of the port.
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	for _, stream := range streams[:3] {
		if _, err := stream.ListServices(); connect.CodeOf(err) != connect.CodeUnavailable && !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
	}
}

// grpcio 1.49 crashes when the health that its channel watches may be gzipped.
func TestHealthIsNeverCompressed(t *testing.T) {
	p := start(t, Config{}, nil)
	for _, sent := range []string{"", "identity", "gzip", "deflate"} {
		for _, method := range []string{"Check", "List"} {
			response, _ := p.post(true, "/grpc.health.v1.Health/"+method, "application/grpc", strings.NewReader("\x00\x00\x00\x00\x00"),
				"Grpc-Accept-Encoding", "identity, deflate, gzip", "Grpc-Encoding", sent)
			if encoding, ok := response.Header["Grpc-Encoding"]; ok || response.Header.Get("Grpc-Status") != "0" {
				t.Errorf("%s with %q: status %q, encoding %q", method, sent, response.Header.Get("Grpc-Status"), encoding)
			}
		}
		for _, protocol := range [][]connect.ClientOption{{connect.WithGRPC()}, {connect.WithGRPCWeb()}, nil} {
			options := append(protocol, connect.WithSendCompression(sent), connect.WithAcceptCompression("deflate",
				func() connect.Decompressor { return inflate.New(inflate.Deflate, 1<<20, nil) }, inflate.Deflate.NewCompressor))
			stream, err := healthv1connect.NewHealthClient(client(t, true), "http://"+p.address, options...).Watch(t.Context(), &healthv1.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if !stream.Receive() {
				t.Errorf("Watch with %q: %v", sent, stream.Err())
			}
			for _, name := range []string{"Grpc-Encoding", "Connect-Content-Encoding", "Content-Encoding"} {
				if encoding, ok := stream.ResponseHeader()[name]; ok {
					t.Errorf("Watch with %q: %s %q", sent, name, encoding)
				}
			}
			stream.Close()
		}
	}
}
