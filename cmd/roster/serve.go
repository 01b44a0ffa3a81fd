package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"example.com/roster/directory"
	"example.com/roster/server"
)

// serveFlags are the flags of roster serve.
type serveFlags struct {
	addr, store, http2  string
	tls                 tlsFlags
	access              accessFlags
	sample              bool
	maxBatch            int
	limits              limitFlags
	restart             restartFlags
	logFormat, logLevel string
	telemetry           telemetryFlags
	services            servicesFlags
}

func newServeCommand() *cobra.Command {
	var f serveFlags
	command := &cobra.Command{
		Use:   "serve",
		Short: "Serve the directory: gRPC, gRPC-Web, Connect, JSON and the page on one port",
		Long: `Serve answers on one port: gRPC over HTTP/2, gRPC-Web, Connect and JSON over
HTTP/1.1 and HTTP/2, and the page at /. It speaks plain, or, with --tls-cert and
--tls-key, TLS alone.

SIGTERM or SIGINT drains: no new connections, and running calls may finish
within --drain-timeout. A second signal ends the process at once.

Restarted without a failed call: start the next process beside this one, both
with --reuse-port, and when it serves send SIGTERM to this one. Or pass the
listening socket to it as systemd does (LISTEN_FDS).`,
		Example: `  roster serve --sample
  roster serve --addr :50051 --store /var/lib/roster/roster.db
  ROSTER_ADDR=:8080 roster serve`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServe(cmd.Context(), cmd.ErrOrStderr(), f) },
	}
	flags := command.Flags()
	flags.StringVar(&f.addr, "addr", "localhost:50051", "host:port to listen on; :50051 is every address of this machine")
	flags.StringVar(&f.store, "store", "roster.db", storeUsage)
	flags.BoolVar(&f.sample, "sample", false, "load the sample users into an empty store")
	f.tls.register(flags)
	f.access.register(flags)
	flags.StringVar(&f.http2, "http2", "fast", "HTTP/2 engine: fast is Roster's own, std is the one of Go's net/http")
	flags.IntVar(&f.maxBatch, "max-batch", 10_000, "most ids in one call")
	f.services.register(flags)
	f.limits.register(flags)
	f.restart.register(flags)
	flags.StringVar(&f.logFormat, "log-format", "", "text or json; by default text on a terminal, else json")
	flags.StringVar(&f.logLevel, "log-level", "info", "least level to log: debug, info, warn or error")
	f.telemetry.register(flags)
	return command
}

func (f serveFlags) check() error {
	switch {
	case f.addr == "":
		return usage("--addr is empty: give host:port, or :port for every address of this machine")
	case f.http2 != "fast" && f.http2 != "std":
		return usage("--http2 %q: want fast or std", f.http2)
	case f.maxBatch < 1:
		return usage("--max-batch %d: must be at least 1", f.maxBatch)
	}
	return cmp.Or(
		f.tls.check(),
		f.telemetry.check(f.addr),
		f.access.check(),
		f.services.check(),
		f.limits.check(),
		f.restart.check(),
	)
}

// runServe wires the whole server: store, directory, port.
func runServe(ctx context.Context, stderr io.Writer, f serveFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	log, err := newLogger(stderr, f.logFormat, f.logLevel)
	if err != nil {
		return err
	}
	if !isTerminal(stderr) {
		signal.Ignore(syscall.SIGHUP) // asks for a reload, and all that is reloaded without TLS is anyway
	}
	tlsFiles, err := f.tls.open(log)
	if err != nil {
		return err
	}
	tokens, err := f.access.open(log)
	if err != nil {
		return err
	}
	watch, err := f.telemetry.start(ctx, f.restart.reusePort, log)
	if err != nil {
		return err
	}
	defer watch.stop()
	// The port first: if it is taken, nothing else needs to happen.
	port, err := f.restart.takePort(ctx, f.addr, log)
	if err != nil {
		return err
	}
	defer port.close()
	store, err := openStore(ctx, f.store)
	if err != nil {
		return err
	}
	defer store.Close()
	if f.sample {
		loaded, err := loadSample(ctx, store)
		if err != nil {
			return fmt.Errorf("load the sample users: %w", err)
		}
		log.Info("sample users", "loaded", loaded)
	}
	dir, err := directory.New(ctx, watch.store(store), watch.directory(directory.Config{Log: log}))
	if err != nil {
		return err
	}
	defer dir.Close()

	if os.Getenv("GOGC") == "" {
		floor := heapFloor()
		defer runtime.KeepAlive(floor)
	}
	listener, err := port.open(ctx)
	if err != nil {
		return err
	}
	log.Info("serving", "address", listener.Addr().String(), "store", f.store, "version", buildVersion())
	if isTerminal(stderr) {
		address := callAddress(f.addr, listener.Addr())
		if tlsFiles != nil {
			fmt.Fprint(stderr, f.access.welcome(f.tls.welcome(address, tlsFiles.SelfSigned())))
		} else {
			fmt.Fprint(stderr, f.access.welcome(welcome(address)))
		}
	}
	config := server.Config{
		Directory:     dir,
		MaxBatch:      f.maxBatch,
		MaxWatches:    f.services.maxWatches,
		DrainTimeout:  f.restart.drainTimeout,
		DrainDelay:    f.restart.drainDelay,
		StandardHTTP2: f.http2 == "std",
		Log:           log,
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx)) // to the end of the drain
	defer stop()
	if tlsFiles != nil {
		config.TLS = tlsFiles.TLS()
		go watchTLS(watching, tlsFiles, isTerminal(stderr))
	}
	config.ClientCertificates = f.tls.clientCA != ""
	f.access.apply(watching, &config, tokens, listener)
	f.limits.apply(&config)
	sources := f.telemetry.observers(watch, &config)
	srv, err := server.New(config)
	if err != nil {
		return err
	}
	watch.observe(srv, dir, config, tlsFiles, sources)
	tellManager(ctx, log)
	err = srv.Serve(ctx, listener)
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// heapFloor is memory that is never touched, and so never resident. The garbage
// collector counts it as live: it runs when about as much has been allocated,
// and not, with the few megabytes that are in use, every few thousand calls.
func heapFloor() []byte { return make([]byte, 16<<20) }

// callAddress is host:port as a caller on this machine would write it: the
// host that was asked for, or localhost if that was every address.
func callAddress(asked string, actual net.Addr) string {
	host, _, err := net.SplitHostPort(asked)
	if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	_, port, _ := net.SplitHostPort(actual.String())
	return net.JoinHostPort(host, port)
}

// welcome is what a person who starts the server by hand can do next. Each
// line works as pasted, the last two in a checkout of this repository.
func welcome(address string) string {
	return strings.ReplaceAll(`
  The page   http://ADDRESS/
  curl       curl -H 'content-type: application/json' -d '{"userIDs":[1,2]}' http://ADDRESS/MyService/User
  Python     pip install grpcio protobuf && PYTHONPATH=gen/python python3 -c "import grpc, api_pb2 as pb, api_pb2_grpc as rpc; print(rpc.MyServiceStub(grpc.insecure_channel('ADDRESS')).User(pb.UserReq(userIDs=[1, 2])))"
  Go         go run ./cmd/roster get 1 2 --server http://ADDRESS

`, "ADDRESS", address)
}

func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var options slog.HandlerOptions
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, usage("--log-level %q: want debug, info, warn or error", level)
	}
	options.Level = least
	if format == "" {
		format = "json"
		if isTerminal(w) {
			format = "text"
		}
	}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, &options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, &options)), nil
	}
	return nil, usage("--log-format %q: want text or json", format)
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
