// The server under test of make conformance: Roster's server as `roster serve` runs it, with a real
// store. The suite's service is mounted beside Roster's services and behind the same guards,
// limits, codecs and interceptors.
//
// connectconformance starts the program, sends the configuration on stdin (with or without TLS, how
// long a message may be), reads the address from stdout, makes its calls, and stops the program
// with SIGTERM.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/conformance/compat"
	"example.com/roster/conformance/gen/conformancepb"
	"example.com/roster/conformance/gen/conformancepb/conformancepbconnect"
	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	"example.com/roster/server"
	"example.com/roster/server/rpc"
	"example.com/roster/server/service"
	"example.com/roster/server/tlsfile"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "server under test:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	asked := &conformancepb.ServerCompatRequest{}
	if err := compat.Read(stdin, asked); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	tlsConfig, err := openTLS(asked, log)
	if err != nil {
		return err
	}
	dir, closeDirectory, err := openDirectory(ctx)
	if err != nil {
		return err
	}
	defer closeDirectory()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	address := listener.Addr().(*net.TCPAddr)
	if err := compat.Write(stdout, &conformancepb.ServerCompatResponse{
		Host:    address.IP.String(),
		Port:    uint32(address.Port),
		PemCert: asked.GetServerCreds().GetCert(),
	}); err != nil {
		return err
	}
	srv, err := server.New(server.Config{
		Directory:    dir,
		Mounts:       []rpc.Mount{suite(log, asked.GetMessageReceiveLimit())},
		TLS:          tlsConfig,
		DrainTimeout: time.Second,
		Log:          log,
	})
	if err != nil {
		return err
	}
	err = srv.Serve(ctx, listener)
	if ctx.Err() != nil {
		// The suite has all its answers, so streams that it left open are not an error.
		return nil
	}
	return err
}

// suite mounts the suite's service. The suite also tests a limit on messages that is lower than
// Roster's.
func suite(log *slog.Logger, maxMessageBytes uint32) rpc.Mount {
	options := []connect.HandlerOption{service.HandlerOptions(log)}
	if maxMessageBytes > 0 {
		options = append(options, connect.WithReadMaxBytes(min(int(maxMessageBytes), rpc.MaxMessageBytes)))
	}
	_, handler := conformancepbconnect.NewConformanceServiceHandler(conformanceService{}, options...)
	descriptor := conformancepb.File_connectrpc_conformance_v1_service_proto.Services().ByName("ConformanceService")
	return rpc.Mount{
		Service:  descriptor,
		Handler:  handler,
		Policies: rpc.SamePolicy(descriptor, rpc.Policy{Role: rpc.Anyone}, 10_000),
	}
}

// openDirectory opens a directory as `roster serve` does, on a temporary store. The function that
// it returns closes the directory and deletes the store.
func openDirectory(ctx context.Context) (*directory.Directory, func(), error) {
	folder, err := os.MkdirTemp("", "roster-conformance-")
	if err != nil {
		return nil, nil, err
	}
	store, err := sqlite.Open(ctx, filepath.Join(folder, "roster.db"))
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(folder))
	}
	dir, err := directory.New(ctx, store, directory.Config{})
	if err != nil {
		return nil, nil, errors.Join(err, store.Close(), os.RemoveAll(folder))
	}
	return dir, func() {
		dir.Close()
		store.Close()
		os.RemoveAll(folder)
	}, nil
}

// openTLS returns the TLS configuration that the suite asks for, made by tlsfile as in `roster
// serve`; nil for none.
func openTLS(asked *conformancepb.ServerCompatRequest, log *slog.Logger) (*tls.Config, error) {
	if !asked.GetUseTls() {
		return nil, nil
	}
	folder, err := os.MkdirTemp("", "roster-conformance-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder) // the files are read once
	config := tlsfile.Config{
		Cert: filepath.Join(folder, "cert.pem"),
		Key:  filepath.Join(folder, "key.pem"),
		Log:  log,
	}
	files := map[string][]byte{
		config.Cert: asked.GetServerCreds().GetCert(),
		config.Key:  asked.GetServerCreds().GetKey(),
	}
	if trusted := asked.GetClientTlsCert(); len(trusted) > 0 {
		config.ClientCA = filepath.Join(folder, "client-ca.pem")
		files[config.ClientCA] = trusted
	}
	for name, text := range files {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			return nil, err
		}
	}
	opened, err := tlsfile.Open(config)
	if err != nil {
		return nil, err
	}
	return opened.TLS(), nil
}
