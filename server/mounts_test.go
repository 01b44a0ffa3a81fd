package server

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/server/rpc"
	"example.com/roster/server/rpc/rpctest"
	"example.com/roster/server/service"
)

// A method without a policy is not served: New returns an error that names it.
func TestAMethodWithoutAPolicyIsAnErrorOfNew(t *testing.T) {
	mounts := rpctest.Mounts(t, rpctest.Route{Path: "/s.v1.Jobs/Run", Handler: http.NotFoundHandler()})
	mounts[0].Policies = nil
	_, err := New(Config{Directory: start(t, Config{}, nil).server.config.Directory, Mounts: mounts})
	if err == nil || !strings.Contains(err.Error(), "/s.v1.Jobs/Run has no policy") {
		t.Errorf("New: %v, want an error that names /s.v1.Jobs/Run", err)
	}
}

func TestNewWithoutADirectory(t *testing.T) {
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "Config.Directory is not set") {
		t.Errorf("New: %v", err)
	}
	srv, err := New(Config{WithoutDirectory: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range srv.Table().Services() {
		if name := string(service.FullName()); !strings.HasPrefix(name, "grpc.") {
			t.Errorf("a port without a directory serves %s", name)
		}
	}
}

// Every method that Roster serves has a policy that somebody chose: this is the list.
func TestThePoliciesOfRosterItself(t *testing.T) {
	type policy struct {
		role  rpc.Role
		vital bool
	}
	want := map[string]policy{
		"/MyService/User":                                                {rpc.Reader, false},
		"/MyService/Health":                                              {rpc.Anyone, true},
		"/roster.v1.DirectoryService/GetUser":                            {rpc.Reader, false},
		"/roster.v1.DirectoryService/BatchGetUsers":                      {rpc.Reader, false},
		"/roster.v1.DirectoryService/ListUsers":                          {rpc.Reader, false},
		"/roster.v1.DirectoryService/ExportUsers":                        {rpc.Reader, false},
		"/roster.v1.DirectoryService/WatchUsers":                         {rpc.Reader, false},
		"/roster.v1.DirectoryService/CreateUser":                         {rpc.Writer, false},
		"/roster.v1.DirectoryService/UpdateUser":                         {rpc.Writer, false},
		"/roster.v1.DirectoryService/DeleteUser":                         {rpc.Writer, false},
		"/roster.v1.DirectoryService/BatchUpdateUsers":                   {rpc.Writer, false},
		"/roster.v1.DirectoryService/ImportUsers":                        {rpc.Writer, false},
		"/roster.v1.DirectoryService/ListChanges":                        {rpc.Writer, false},
		"/grpc.health.v1.Health/Check":                                   {rpc.Anyone, true},
		"/grpc.health.v1.Health/List":                                    {rpc.Anyone, true},
		"/grpc.health.v1.Health/Watch":                                   {rpc.Anyone, true},
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      {rpc.Reader, true},
		"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": {rpc.Reader, true},
	}
	for _, method := range start(t, Config{}, nil).server.Table().Methods() {
		got := policy{method.Role, method.Vital}
		if chosen, ok := want[method.Path]; !ok || got != chosen {
			t.Errorf("%s is %+v, want %+v", method.Path, got, chosen)
		}
		delete(want, method.Path)
	}
	for path := range want {
		t.Errorf("%s is not served", path)
	}
}

// quiet is a server stream that sends nothing until it is released.
func quiet(path string, entered chan<- bool, release <-chan struct{}, policy rpc.Policy) rpctest.Route {
	return rpctest.Route{Path: path, ServerStreams: true, Policy: policy, Handler: connect.NewServerStreamHandler(path,
		func(ctx context.Context, _ *connect.Request[emptypb.Empty], _ *connect.ServerStream[emptypb.Empty]) error {
			entered <- true
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil
		}, service.HandlerOptions(Config{}.withDefaults().Log))}
}

// openStream opens a stream at path and reports how it ended.
func (p *port) openStream(path string) <-chan error {
	ended := make(chan error, 1)
	go func() { // the client waits for the header of the reply, which a quiet handler does not send
		stream, err := connect.NewClient[emptypb.Empty, emptypb.Empty](client(p.t, true), "http://"+p.address+path, connect.WithGRPC()).
			CallServerStream(p.t.Context(), connect.NewRequest(&emptypb.Empty{}))
		if err == nil {
			for stream.Receive() {
			}
			err = stream.Err()
		}
		ended <- err
	}()
	return ended
}

// Streams have counts of their own: any number of quiet ones leaves all the room to look-ups, and
// one method's streams leave the room of another's.
func TestQuietStreamsLeaveRoomForCalls(t *testing.T) {
	entered, release := make(chan bool, 8), make(chan struct{})
	p := start(t, Config{MaxConcurrentCalls: 1}, nil,
		quiet("/s.Watches/One", entered, release, rpc.Policy{MaxStreams: 3}),
		quiet("/s.Watches/Two", entered, release, rpc.Policy{MaxStreams: 1}))
	var open []<-chan error
	for _, path := range []string{"/s.Watches/One", "/s.Watches/One", "/s.Watches/One", "/s.Watches/Two"} {
		open = append(open, p.openStream(path))
		<-entered
	}
	if response, body := p.post(true, "/MyService/User", "application/json", strings.NewReader(`{"userIDs":[1]}`)); response.StatusCode != 200 {
		t.Errorf("beside quiet streams a look-up gets %d %s", response.StatusCode, body)
	}
	err := <-p.openStream("/s.Watches/One")
	const full = "3 calls of /s.Watches/One are open, the maximum of this server (a fixed limit, no flag): call again later"
	if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), full) {
		t.Errorf("one stream too many: %v, want %s", err, full)
	}
	close(release)
	for _, ended := range open {
		if err := <-ended; err != nil {
			t.Errorf("a stream ended with %v", err)
		}
	}
	again := p.openStream("/s.Watches/One")
	<-entered
	if err := <-again; err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

// Mounts change while the port serves, and only calls of services that were removed fail.
func TestMountsChangeWhileThePortServes(t *testing.T) {
	p := start(t, Config{}, nil)
	hello := rpctest.Mounts(t, rpctest.Route{Path: "/s.v1.Hello/Say", Handler: connect.NewUnaryHandlerSimple("/s.v1.Hello/Say",
		func(context.Context, *emptypb.Empty) (*emptypb.Empty, error) { return &emptypb.Empty{}, nil },
		service.HandlerOptions(Config{}.withDefaults().Log))})
	say := func() int {
		response, _ := p.post(true, "/s.v1.Hello/Say", "application/json", strings.NewReader("{}"))
		return response.StatusCode
	}
	watch := watching(t, p.health(), "s.v1.Hello")
	watch.want(healthv1.HealthCheckResponse_SERVICE_UNKNOWN)
	if status := say(); status != 404 {
		t.Errorf("before it is mounted: %d", status)
	}

	done, others := make(chan struct{}), sync.WaitGroup{}
	others.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if response, body := p.post(true, "/MyService/User", "application/json", strings.NewReader(`{"userIDs":[1]}`)); response.StatusCode != 200 {
				t.Errorf("a look-up meanwhile: %d %s", response.StatusCode, body)
				return
			}
		}
	})
	for range 20 {
		if err := p.server.Mount(hello...); err != nil {
			t.Fatal(err)
		}
		if status := say(); status != 200 {
			t.Errorf("mounted: %d", status)
		}
		watch.want(healthv1.HealthCheckResponse_SERVING)
		if err := p.server.Mount(); err != nil {
			t.Fatal(err)
		}
		if status := say(); status != 404 {
			t.Errorf("taken away: %d", status)
		}
		watch.want(healthv1.HealthCheckResponse_SERVICE_UNKNOWN)
	}
	close(done)
	others.Wait()

	// A mount that is refused changes nothing.
	if err := p.server.Mount(hello...); err != nil {
		t.Fatal(err)
	}
	if err := p.server.Mount(rpc.Mount{}); err == nil {
		t.Error("an empty mount is taken")
	}
	if err := p.server.Mount(p.server.own[0]); err == nil || !strings.Contains(err.Error(), "the service MyService is mounted twice") {
		t.Errorf("Roster's own service once more: %v", err)
	}
	if status := say(); status != 200 {
		t.Errorf("after mounts that do not fit: %d", status)
	}
}

// A path in another form than the procedure's is no procedure, in the caller's own protocol.
func TestOtherFormsOfAPath(t *testing.T) {
	p := start(t, Config{}, nil)
	for _, path := range []string{"//MyService/User", "/./MyService/User", "/MyService//User", "/MyService/User/", "/myservice/user", "/MyService/../MyService/User", "/MyService%2FUser", "/%4dyService/User"} {
		response, _ := p.post(true, path, "application/grpc", strings.NewReader("\x00\x00\x00\x00\x00"))
		if status := response.Header.Get("Grpc-Status"); response.StatusCode != 200 || status != "12" {
			t.Errorf("%s: %d, Grpc-Status %q, want UNIMPLEMENTED", path, response.StatusCode, status)
		}
	}
}
