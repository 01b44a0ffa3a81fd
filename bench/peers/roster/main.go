// Command roster is Roster with the bench-only stream mounted on its own handler chain: the
// directory in SQLite, the cache, the limits and the server as `roster serve` wires them. The
// stream alone is measured on it, everything else on the real binary.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"example.com/roster/bench/gen/tickerpb"
	"example.com/roster/bench/gen/tickerpb/tickerpbconnect"
	"example.com/roster/bench/internal/service"
	"example.com/roster/bench/internal/ticker"
	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	"example.com/roster/server"
	"example.com/roster/server/rpc"
	rosterservice "example.com/roster/server/service"
)

func main() {
	store := flag.String("store", "", "SQLite file to make")
	engine := flag.String("http2", "fast", "HTTP/2 engine: fast or std")
	service.Main(func(listener net.Listener, _ *tls.Config) error {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		return serve(ctx, listener, *store, *engine == "std")
	})
}

func serve(ctx context.Context, listener net.Listener, file string, standardHTTP2 bool) error {
	store, err := sqlite.Open(ctx, file)
	if err != nil {
		return err
	}
	defer store.Close()
	dir, err := directory.New(ctx, store, directory.Config{})
	if err != nil {
		return err
	}
	defer dir.Close()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ticks := tickerpb.File_ticker_proto.Services().ByName("TickerService")
	_, handler := tickerpbconnect.NewTickerServiceHandler(ticker.Service{}, rosterservice.HandlerOptions(logger))
	srv, err := server.New(server.Config{
		Directory:     dir,
		Mounts:        []rpc.Mount{{Service: ticks, Handler: handler, Policies: rpc.SamePolicy(ticks, rpc.Policy{Role: rpc.Reader}, 10_000)}},
		StandardHTTP2: standardHTTP2,
		Log:           logger,
	})
	if err != nil {
		return err
	}
	return srv.Serve(ctx, listener)
}
