package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"example.com/roster/directory"
	"example.com/roster/internal/loopback"
	"example.com/roster/internal/printable"
	"example.com/roster/server"
	"example.com/roster/server/auth"
	"example.com/roster/server/telemetry"
	"example.com/roster/server/tlsfile"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newServeCommand() *cobra.Command {
	var f serveFlags
	command := &cobra.Command{
		Use:   "serve",
		Short: "Serve the directory: gRPC, gRPC-Web, Connect, JSON and the page on one port",
		Long: `Serve answers on one port: gRPC over HTTP/2, gRPC-Web, Connect and JSON over
HTTP/1.1 and HTTP/2, and the page at /. It speaks cleartext or, with --tls-cert
and --tls-key, only TLS.

SIGTERM or SIGINT drains: the port accepts no new connections, and running
calls may finish within --drain-timeout. A second signal ends the process at
once.

To restart without a failed call, start the next process beside this one, both
with --reuse-port, and send SIGTERM to this one when the next one serves. Or
pass the listening socket to it as systemd does (LISTEN_FDS).`,
		Example: `  roster serve --sample
  roster serve --addr :50051 --store /var/lib/roster/roster.db
  ROSTER_ADDR=:8080 roster serve`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.storeGiven = cmd.Flags().Changed("store")
			return serveBy(cmd, f)
		},
	}
	addFlags(command, f.table())
	return command
}

// serveBy serves as the flags of a command say, with a log that no reader of it can stop.
func serveBy(cmd *cobra.Command, f serveFlags) error {
	f.settings = settings(cmd.Flags(), f)
	f.unknown = unknownVariables(cmd.Root())
	stderr := cmd.ErrOrStderr()
	terminal := isTerminal(stderr)
	if file := fileOf(stderr); file != nil {
		stderr = ownStandardError(file)
	}
	queue := telemetry.NewLogQueue(stderr)
	cmd.SetErr(queue) // for what is said at the end; run closes it
	return runServe(cmd.Context(), queue, terminal, f)
}

// runServe serves until ctx is done, from the first file that it opens to the last one that it
// closes: TLS, tokens, monitor, port, store, directory, server.
func runServe(ctx context.Context, stderr *telemetry.LogQueue, terminal bool, f serveFlags) error {
	log := newLogger(stderr, f.logFormat, f.logLevel, terminal)
	for _, unknown := range f.unknown {
		log.Warn(unknown.String())
	}
	log.LogAttrs(ctx, slog.LevelInfo, "settings", f.settings...)
	if !terminal {
		signal.Ignore(syscall.SIGHUP) // it asks for a reload, and without TLS there is nothing to reload
	}
	tlsFiles, err := openTLS(f, log)
	if err != nil {
		return err
	}
	tokens, err := openTokens(f, log)
	if err != nil {
		return err
	}
	monitor, err := startMonitor(ctx, f, stderr, log)
	if err != nil {
		return err
	}
	defer monitor.stop()
	// The port first: if its address is in use, nothing else needs to happen.
	port, err := takePort(ctx, f, log)
	if err != nil {
		return err
	}
	defer port.close()
	other, err := newBridge(f, monitor, log)
	if err != nil {
		return err
	}
	var store *servedStore
	var dir *directory.Directory
	if !f.bridgeOnly {
		if store, err = openServedStore(ctx, f, log); err != nil {
			return err
		}
		defer store.Close()
		dir, err = directory.New(ctx, monitor.store(store), directory.Config{OnWait: monitor.onWait(), Log: log})
		if err != nil {
			return err
		}
		defer dir.Close()
	}

	if os.Getenv("GOGC") == "" {
		// Half of GOGC's default, so that a heap that grows large takes half of itself in garbage
		// and not as much again.
		debug.SetGCPercent(50)
		floor := heapFloor()
		defer runtime.KeepAlive(floor)
	}
	listener, err := port.open(ctx)
	if err != nil {
		return err
	}
	reloading, stop := context.WithCancel(context.WithoutCancel(ctx)) // to the end of the drain
	defer stop()
	config := f.config()
	config.Directory, config.WithoutDirectory = dir, f.bridgeOnly
	if other != nil {
		config.Elsewhere, config.Unknown = f.bridge.elsewhere(), other.Unknown
	}
	config.Local = loopback.Addr(listener.Addr())
	config.Log = log
	config.Observers = monitor.observers()
	if tlsFiles != nil {
		config.TLS = tlsFiles.TLS()
		go watchTLS(reloading, tlsFiles, terminal)
	}
	if tokens != nil {
		config.Tokens = tokens.Set
		go tokens.Watch(reloading)
	}
	srv, err := server.New(config)
	if err != nil {
		return err
	}
	monitor.serving(srv, config, store, tlsFiles, tokens, other)
	announce(f, listener.Addr(), store, log)
	welcome := newWelcome(f, callAddress(f.addr, listener.Addr()), tlsFiles)
	greets := terminal && !f.proxyProtocol // with it none of the lines would work as pasted
	if greets && !f.bridgeOnly {
		fmt.Fprint(stderr, welcome)
	}
	warnIfOpen(config, listener.Addr().String(), other != nil)
	if other != nil {
		port := &bridgedPort{Port: srv, config: config, address: listener.Addr().String(), log: log, welcome: welcome}
		if greets {
			port.terminal = stderr
		}
		defer startBridge(ctx, other, port)()
	}
	notifySystemd(ctx, log)
	err = srv.Serve(ctx, listener)
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// settings returns what every flag is set to, by the command line, the environment or its default. A
// password in --store is left out; the others are no secrets.
func settings(flags *pflag.FlagSet, f serveFlags) (all []slog.Attr) {
	flags.VisitAll(func(flag *pflag.Flag) {
		value := flag.Value.String()
		switch {
		case flag.Name == "help":
			return
		case flag.Name == "store" && f.sample && !f.storeGiven:
			value = "temporary"
		case flag.Name == "store":
			value = redactStore(value)
		}
		all = append(all, slog.String(flag.Name, value))
	})
	if f.bridgeOnly {
		all = append(all, slog.String("bridge", f.bridge.upstreams.String())) // its arguments
	}
	return all
}

// announce logs that the port is served, and what that means for those who call it.
func announce(f serveFlags, address net.Addr, store *servedStore, log *slog.Logger) {
	if store == nil {
		log.Info("serving", "address", address.String(), "version", buildVersion())
	} else {
		log.Info("serving", "address", address.String(), "store", store.name, "users", store.users, "version", buildVersion())
	}
	if store != nil && store.users == 0 {
		log.Info("the store has no users: load some with roster import --store " + shellWord(store.name) +
			" FILE, while this server runs, or start it with --sample")
	}
	if len(f.corsOrigins) > 0 {
		log.Info("pages of these origins may call", "origins", f.corsOrigins)
	}
}

// config returns what the flags say of the port.
func (f serveFlags) config() server.Config {
	// All checked already.
	origins, _ := parseOrigins(f.corsOrigins)
	headers, _ := parseHeaders(f.corsHeaders)
	proxies, _ := parseProxies(f.trustedProxies)
	return server.Config{
		StandardHTTP2:      f.http2 == "std",
		ClientCertificates: f.tlsClientCA != "",
		OpenReads:          f.openReads,
		Origins:            origins,
		PageHeaders:        headers,
		TrustedProxies:     proxies,
		ProxyProtocol:      f.proxyProtocol,
		MaxBatch:           f.maxBatch,
		MaxConcurrentCalls: f.maxConcurrentCalls,
		MaxDeadline:        f.maxDeadline,
		MaxWatches:         f.maxWatches,
		MaxConnections:     f.maxConnections,
		RateLimit:          f.rateLimit,
		RateBurst:          f.rateBurst,
		DrainTimeout:       f.drainTimeout,
		DrainDelay:         f.drainDelay,
	}
}

// openTLS reads the TLS files, nil if the port is to speak cleartext.
func openTLS(f serveFlags, log *slog.Logger) (*tlsfile.Files, error) {
	if f.tlsCert == "" {
		return nil, nil
	}
	return tlsfile.Open(tlsfile.Config{Cert: f.tlsCert, Key: f.tlsKey, ClientCA: f.tlsClientCA, Log: log})
}

// watchTLS reloads the files when they change, until ctx is done. SIGHUP, which many scripts send
// after a renewal, has them read at once; except on a terminal, where it ends the program.
func watchTLS(ctx context.Context, files *tlsfile.Files, terminal bool) {
	if !terminal {
		hangUps := make(chan os.Signal, 1)
		signal.Notify(hangUps, syscall.SIGHUP)
		defer signal.Stop(hangUps)
		go func() {
			for {
				select {
				case <-hangUps:
					files.Reload()
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	files.Watch(ctx)
}

// openTokens reads the token file, nil if calls need no token.
func openTokens(f serveFlags, log *slog.Logger) (*auth.Live, error) {
	if f.tokens == "" {
		return nil, nil
	}
	return auth.Open(f.tokens, log)
}

// newWelcome returns the welcome to a server at address.
func newWelcome(f serveFlags, address string, tlsFiles *tlsfile.Files) welcome {
	w := welcome{address: address, tls: tlsFiles != nil, clientCertificates: f.tlsClientCA != ""}
	if tlsFiles != nil && tlsFiles.SelfSigned() {
		w.cert = f.tlsCert
	}
	if !f.openReads {
		w.tokens = f.tokens
	}
	return w
}

// warnIfOpen warns of what callers from the network can do that nobody asked for.
func warnIfOpen(config server.Config, address string, bridges bool) {
	if open := whatIsOpen(config, bridges); open != "" {
		config.Log.Warn("open to the network", "address", address, "what", open)
	}
}

// whatIsOpen says what everyone who can reach the port, or listen on the way to it, can do; empty
// if that is only what was asked for. Which methods of bridged servers are open is known only when these
// have told their services: see bridgedPort.
func whatIsOpen(config server.Config, bridges bool) string {
	guarded := isGuarded(config)
	read := "read every user"
	switch {
	case config.WithoutDirectory:
		read = "make those calls of the bridged servers that change nothing, or are for anyone by --bridge-role"
	case bridges:
		read += ", and make those calls of the bridged servers that change nothing, or are for anyone by --bridge-role"
	}
	proxied := len(config.TrustedProxies) > 0 || config.ProxyProtocol
	switch {
	case config.Local && proxied && !guarded:
		return "everyone whom the proxy in front of it lets through can " + read + "; " +
			"serve with --tokens, unless the proxy lets in none but your own callers"
	case config.Local, config.TLS != nil && guarded:
		return ""
	case config.TLS == nil && !guarded:
		return "everyone who can reach it can " + read + ", and everyone on the network path can read and change every call; " +
			"serve with --tls-cert and --tls-key, and with --tokens or --tls-client-ca, or on localhost"
	case config.TLS == nil:
		return "everyone on the network path can read the tokens and every call; serve with --tls-cert and --tls-key, " +
			"unless a proxy in front of it does"
	default:
		return "everyone who can reach it can " + read + "; serve with --tokens or --tls-client-ca"
	}
}

// isGuarded reports whether callers have to show who they are, by a token or a certificate.
func isGuarded(config server.Config) bool { return config.Tokens != nil || config.ClientCertificates }

// heapFloor returns memory that is never touched, and so never resident. The garbage collector
// counts it as live: so it runs when about as much has been allocated, and not every few thousand
// calls, as it would with the few megabytes that are in use.
func heapFloor() []byte { return make([]byte, 32<<20) }

// newLogger returns the log that the flags ask for, which have been checked.
func newLogger(queue *telemetry.LogQueue, format, level string, terminal bool) *slog.Logger {
	least, _ := parseLogLevel(level)
	options := slog.HandlerOptions{Level: least, ReplaceAttr: readable}
	return queue.Log(func(w io.Writer) slog.Handler {
		if format == "text" || format == "" && terminal {
			return slog.NewTextHandler(w, &options)
		}
		return slog.NewJSONHandler(printableJSON{w}, &options)
	})
}

// readable writes a duration with its unit. In JSON it would be a number of nanoseconds.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// printableJSON escapes what a terminal would act on, for those who look at a log in one. The text
// handler does so by itself.
type printableJSON struct{ io.Writer }

func (w printableJSON) Write(p []byte) (int, error) {
	if _, err := w.Writer.Write(printable.JSON(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}
