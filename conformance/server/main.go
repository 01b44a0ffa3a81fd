// The server under test of make conformance: what `roster serve` listens with,
// a real store behind it, and the suite's own service mounted beside Roster's,
// behind the same guards, limits, codecs and interceptors.
//
// connectconformance starts it, says on stdin what it wants (with or without
// TLS, how long a message may be), reads from stdout where it listens, calls,
// and ends it with SIGTERM.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	"example.com/roster/server/api"
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
		return fmt.Errorf("read what is wanted: %w", err)
	}
	tlsConfig, err := newTLSConfig(asked)
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
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	config := server.Config{
		Directory:    dir,
		TLS:          tlsConfig,
		DrainTimeout: time.Second,
		Log:          log,
	}
	handler := server.NewHandler(config, routes(log, asked.GetMessageReceiveLimit())...)
	err = server.Serve(ctx, listener, config, handler)
	if ctx.Err() != nil {
		// The suite has its answers; what it left open is not worth a word.
		return nil
	}
	return err
}

// routes is the suite's service, as api.Routes has Roster's. The suite tries a
// limit of its own on messages, lower than Roster's.
func routes(log *slog.Logger, maxMessageBytes uint32) []api.Route {
	options := []connect.HandlerOption{api.HandlerOptions(log)}
	if maxMessageBytes > 0 {
		options = append(options, connect.WithReadMaxBytes(min(int(maxMessageBytes), api.MaxMessageBytes)))
	}
	_, handler := conformancepbconnect.NewConformanceServiceHandler(service{}, options...)
	services := conformancepb.File_connectrpc_conformance_v1_service_proto.Services()
	return api.RoutesOf(services.ByName("ConformanceService"), handler)
}

// openDirectory is a directory as `roster serve` opens one, on a store of its
// own that goes with it.
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

// newTLSConfig is nil where the suite wants no TLS.
func newTLSConfig(asked *conformancepb.ServerCompatRequest) (*tls.Config, error) {
	if !asked.GetUseTls() {
		return nil, nil
	}
	certificate, err := tls.X509KeyPair(asked.GetServerCreds().GetCert(), asked.GetServerCreds().GetKey())
	if err != nil {
		return nil, fmt.Errorf("the certificate to serve with: %w", err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}}
	if trusted := asked.GetClientTlsCert(); len(trusted) > 0 {
		config.ClientAuth = tls.RequireAndVerifyClientCert
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(trusted) {
			return nil, errors.New("the certificate that clients show is not PEM")
		}
	}
	return config, nil
}
