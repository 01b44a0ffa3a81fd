// The bridge under test of make conformance: a port that has nothing but a bridge to a Python server
// (upstream.py), which implements the suite's service with grpcio.
//
//	bridge PYTHON UPSTREAM.PY
//
// connectconformance starts the program, sends the configuration on stdin, reads the address from
// stdout, makes its calls, and stops the program with SIGTERM.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/roster/conformance/compat"
	"example.com/roster/conformance/gen/conformancepb"
	"example.com/roster/server"
	"example.com/roster/server/bridge"
	"example.com/roster/server/rpc"
	"example.com/roster/server/service"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bridge under test:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) != 2 {
		return errors.New("usage: bridge PYTHON UPSTREAM.PY")
	}
	asked := &conformancepb.ServerCompatRequest{}
	if err := compat.Read(stdin, asked); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	upstream, stop, err := startUpstream(args[0], args[1], stderr)
	if err != nil {
		return err
	}
	defer stop()
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	b, err := bridge.New(bridge.Config{
		Upstreams:  []bridge.Upstream{upstream},
		Roles:      []bridge.RoleRule{{Pattern: "*/*", Role: rpc.Anyone}},
		MaxRequest: int(asked.GetMessageReceiveLimit()),
		Options:    service.HandlerOptions(log),
		Log:        log,
	})
	if err != nil {
		return err
	}
	srv, err := server.New(server.Config{WithoutDirectory: true, MaxDeadline: -1, Unknown: b.Unknown, DrainTimeout: time.Second, Log: log})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	mounted := make(chan struct{})
	bridging, stopBridging := context.WithCancel(context.Background())
	defer stopBridging()
	go b.Run(bridging, &waited{Server: srv, mounted: mounted})
	select {
	case <-mounted:
	case <-time.After(30 * time.Second):
		return errors.New("the upstream's service was not mounted within 30 s")
	}
	address := listener.Addr().(*net.TCPAddr)
	if err := compat.Write(stdout, &conformancepb.ServerCompatResponse{Host: address.IP.String(), Port: uint32(address.Port)}); err != nil {
		return err
	}
	err = srv.Serve(ctx, listener)
	if ctx.Err() != nil {
		return nil // the suite has all its answers, so streams that it left open are not an error
	}
	return err
}

// waited is a port that tells when the service of the suite is mounted.
type waited struct {
	*server.Server
	mounted chan struct{}
}

// Mount implements bridge.Port.
func (w *waited) Mount(mounts ...rpc.Mount) error {
	err := w.Server.Mount(mounts...)
	if len(mounts) > 0 && !mounts[0].Down {
		select {
		case <-w.mounted:
		default:
			close(w.mounted)
		}
	}
	return err
}

// startUpstream starts the Python server.
func startUpstream(python, script string, stderr io.Writer) (upstream bridge.Upstream, stop func(), err error) {
	folder, err := os.MkdirTemp("", "roster-conformance-")
	if err != nil {
		return upstream, nil, err
	}
	defer os.RemoveAll(folder) // the server has read the file before it says its port
	schema := filepath.Join(folder, "schema.binpb")
	if err := writeSchema(schema, conformancepb.File_connectrpc_conformance_v1_service_proto); err != nil {
		return upstream, nil, err
	}
	command := exec.Command(python, script, schema)
	command.Stderr = stderr
	untilClosed, err := command.StdinPipe()
	if err != nil {
		return upstream, nil, err
	}
	said, err := command.StdoutPipe()
	if err != nil {
		return upstream, nil, err
	}
	if err := command.Start(); err != nil {
		return upstream, nil, err
	}
	stop = func() {
		untilClosed.Close()
		command.Wait()
	}
	port, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		stop()
		return upstream, nil, fmt.Errorf("%s did not say its port: %w", script, err)
	}
	upstream, err = bridge.ParseUpstream("http://127.0.0.1:" + strings.TrimSpace(port))
	return upstream, stop, err
}

// writeSchema writes a file and all that it imports as a descriptor set.
func writeSchema(name string, file protoreflect.FileDescriptor) error {
	set := &descriptorpb.FileDescriptorSet{}
	seen := make(map[string]bool)
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
	}
	add(file)
	wire, err := proto.Marshal(set)
	if err != nil {
		return err
	}
	return os.WriteFile(name, wire, 0o600)
}
