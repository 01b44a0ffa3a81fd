package bridge_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"
	reflectv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/roster/server/bridge"
	"example.com/roster/server/drain"
	"example.com/roster/server/rpc"
)

func callUnary(url string, code codes.Code) error {
	client := connect.NewClient[testgrpc.SimpleRequest, testgrpc.SimpleResponse](h2c(), url+testPath+"UnaryCall", connect.WithGRPC())
	_, err := client.CallUnary(context.Background(), connect.NewRequest(&testgrpc.SimpleRequest{
		ResponseStatus: &testgrpc.EchoStatus{Code: int32(code), Message: "as asked"}}))
	return err
}

func TestReportsFollowTheProcesses(t *testing.T) {
	first, second := startServer(t, ""), startServer(t, "")
	text := "http://" + first.address + ",http://" + second.address
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, text)})
	var r bridge.Report
	become := func(what string, ok func() bool) {
		t.Helper()
		await(t, what, func() bool {
			r = b.Reports()[0]
			return ok()
		})
	}
	become("both processes to be ready", func() bool { return r.Ready == 2 && r.Services[bridge.Mounted] == 1 })
	if r.Upstream != text || !r.Up || r.Known != 2 || r.LeftAlone != 0 || r.Unlearnt != 0 || r.SchemaAge < 0 || r.SchemaAge > time.Minute {
		t.Errorf("%+v", r)
	}
	for _, state := range bridge.States {
		if n, ok := r.Services[state]; !ok || n != 0 && state != bridge.Mounted {
			t.Errorf("%s: %d services, %v", state, n, ok)
		}
	}
	if err := b.Ready(); err != nil {
		t.Error(err)
	}
	for range 3 {
		if err := callUnary(url, codes.OK); err != nil {
			t.Fatal(err)
		}
	}
	if r = b.Reports()[0]; r.Attempts != 3 || r.Failed != 0 {
		t.Errorf("%d attempts, %d failed, of 3 calls", r.Attempts, r.Failed)
	}

	first.Stop()
	become("one process to be gone", func() bool { return r.Ready == 1 })
	if !r.Up || r.Known != 2 {
		t.Errorf("%+v", r)
	}
	second.Stop()
	become("the upstream to be down", func() bool { return !r.Up && r.Ready == 0 })
	if r.Known != 2 || r.Services[bridge.Mounted] != 1 || r.SchemaAge < 0 {
		t.Errorf("%+v", r)
	}
	await(t, "the port to have nothing that can be called", func() bool { return b.Ready() != nil })
	if err := b.Ready(); !strings.Contains(err.Error(), text+": ") {
		t.Errorf("it does not name what is down: %v", err)
	}
}

func TestReportsSayWhichProcessesAreLeftAlone(t *testing.T) {
	var urls []string
	for range 3 {
		urls = append(urls, "http://"+startServer(t, "").address)
	}
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, strings.Join(urls, ","))})
	await(t, "all to be ready", func() bool { return b.Reports()[0].Ready == 3 && b.Ready() == nil })
	// Every process fails as often as the others, so one of them is the first to have failed five times in
	// a row. More may follow before the report is read.
	await(t, "a process to be left alone", func() bool {
		if err := callUnary(url, codes.Unknown); connect.CodeOf(err) != connect.CodeUnknown {
			t.Fatal(err)
		}
		return b.Reports()[0].LeftAlone > 0
	})
	if r := b.Reports()[0]; r.Ejections == 0 || r.Failed < 5 || r.Attempts != r.Failed || r.Ready != 3 {
		t.Errorf("%+v", r)
	}
	alone, only := serveBridge(t, bridge.Config{Upstreams: upstream(t, urls[0])})
	await(t, "it to be ready", func() bool { return only.Ready() == nil })
	for range 20 {
		_ = callUnary(alone, codes.Unknown)
	}
	if r := only.Reports()[0]; r.LeftAlone != 0 || r.Ejections != 0 || r.Failed != 20 {
		t.Errorf("the only process there is cannot be left alone: %+v", r)
	}
}

// startOlder starts a server that has a field less in its schema, and answers nothing else.
func startOlder(t *testing.T) (address string) {
	t.Helper()
	var files protoregistry.Files
	for _, file := range testSchema().File {
		if file.GetName() == "grpc/testing/messages.proto" {
			file = proto.Clone(file).(*descriptorpb.FileDescriptorProto)
			for _, message := range file.MessageType {
				if message.GetName() == "SimpleRequest" {
					message.Field = message.Field[:1]
				}
			}
		}
		if found, _ := files.FindFileByPath(file.GetName()); found != nil {
			continue
		}
		linked, err := protodesc.NewFile(file, &files)
		if err != nil {
			t.Fatal(err)
		}
		if err := files.RegisterFile(linked); err != nil {
			t.Fatal(err)
		}
	}
	s := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(s, testgrpc.UnimplementedTestServiceServer{})
	reflectv1.RegisterServerReflectionServer(s, reflection.NewServerV1(reflection.ServerOptions{
		Services: s, DescriptorResolver: &files, ExtensionResolver: protoregistry.GlobalTypes}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(listener)
	t.Cleanup(s.Stop)
	return listener.Addr().String()
}

func TestReportsSayWhyServicesAreRefused(t *testing.T) {
	t.Parallel()
	newer := startServer(t, "")
	t.Run("the processes differ", func(t *testing.T) {
		t.Parallel()
		_, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+newer.address+",http://"+startOlder(t))})
		// If one process was learnt before the other, its schema stays for half a minute.
		for deadline := time.Now().Add(2 * time.Minute); b.Reports()[0].Services[bridge.Differs] != 1; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the service is not refused: %+v", b.Reports())
			}
		}
		if err := b.Ready(); err == nil {
			t.Error("ready, though no service can be called")
		}
	})
	t.Run("another upstream owns it", func(t *testing.T) {
		_, b := serveBridge(t, bridge.Config{Upstreams: append(upstream(t, "http://"+newer.address), upstream(t, "http://"+startServer(t, "").address)...)})
		await(t, "one to be refused", func() bool {
			all := b.Reports()
			return all[0].Services[bridge.Mounted] == 1 && all[1].Services[bridge.Owned] == 1 && all[1].Services[bridge.Mounted] == 0
		})
	})
	t.Run("the port has it", func(t *testing.T) {
		b, err := bridge.New(bridge.Config{Upstreams: upstream(t, "http://"+newer.address), Log: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); b.Run(ctx, occupied{drain.New()}) }()
		defer func() { stop(); <-ended }()
		await(t, "it to be refused", func() bool { return b.Reports()[0].Services[bridge.Reserved] == 1 })
	})
}

// occupied is a port that has a service of each name that is mounted.
type occupied struct{ drain *drain.State }

func (o occupied) Drain() *drain.State { return o.drain }
func (o occupied) Mount(mounts ...rpc.Mount) error {
	if len(mounts) > 0 {
		return &rpc.MountedTwice{Service: string(mounts[0].Service.FullName())}
	}
	return nil
}

func TestAnUpstreamThatIsGivenTwiceIsRefused(t *testing.T) {
	one := upstream(t, "http://127.0.0.1:1")
	_, err := bridge.New(bridge.Config{Upstreams: append(one, one...), Log: testLog(t)})
	if err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:1 is given twice") {
		t.Error(err)
	}
	// One server may be given once for each of its services. They have names of their own.
	b, err := bridge.New(bridge.Config{Upstreams: append(upstream(t, "a.A=http://127.0.0.1:1"), upstream(t, "a.B=http://127.0.0.1:1")...), Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	if all := b.Reports(); all[0].Upstream == all[1].Upstream {
		t.Errorf("both are called %s", all[0].Upstream)
	}
}

func TestAServiceHasOneOwner(t *testing.T) {
	// Also one whose schema is not known yet.
	_, err := bridge.New(bridge.Config{Upstreams: append(upstream(t, "a.A=http://127.0.0.1:1"), upstream(t, "a.A=http://127.0.0.1:2")...), Log: testLog(t)})
	if err == nil || !strings.Contains(err.Error(), "a.A is to be answered by a.A=http://127.0.0.1:1 and by a.A=http://127.0.0.1:2") {
		t.Error(err)
	}
}

func testLog(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }
