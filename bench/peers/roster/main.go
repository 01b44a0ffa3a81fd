// Command roster is Roster with the bench-only stream mounted on its own
// handler chain: the directory in SQLite, the cache, the limits and the server
// that `roster serve` wires. Everything but the stream and the soak is measured
// on the real binary instead.
//
// On SIGUSR1 it writes one line to standard output: goroutines and heap, after
// a collection.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"example.com/roster/bench/gen/tickerpb"
	"example.com/roster/bench/gen/tickerpb/tickerpbconnect"
	"example.com/roster/bench/internal/peerflags"
	"example.com/roster/bench/internal/ticker"
	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	"example.com/roster/directory/userfile"
	"example.com/roster/examples"
	"example.com/roster/server"
	"example.com/roster/server/rpc"
	"example.com/roster/server/service"
)

func main() {
	common := peerflags.Register()
	store := flag.String("store", "", "SQLite file to make and fill with the sample users")
	options := registerOptions()
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, common, *store, options); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, common *peerflags.Flags, file string, options *options) error {
	store, err := sqlite.Open(ctx, file)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := fill(ctx, store); err != nil {
		return err
	}
	dir, err := directory.New(ctx, store, directory.Config{})
	if err != nil {
		return err
	}
	defer dir.Close()
	listener, err := common.Listen()
	if err != nil {
		return err
	}
	go reportOnSignal(ctx)
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	config := server.Config{Directory: dir, Log: logger}
	options.apply(&config)
	ticks := tickerpb.File_ticker_proto.Services().ByName("TickerService")
	_, handler := tickerpbconnect.NewTickerServiceHandler(ticker.Service{}, service.HandlerOptions(logger))
	config.Mounts = []rpc.Mount{{Service: ticks, Handler: handler, Policies: rpc.SamePolicy(ticks, rpc.Policy{Role: rpc.Reader}, 10_000)}}
	srv, err := server.New(config)
	if err != nil {
		return err
	}
	return srv.Serve(ctx, listener)
}

// fill loads the sample users.
func fill(ctx context.Context, store directory.Store) error {
	reader, err := userfile.NewReader(bytes.NewReader(examples.Users), userfile.CSV)
	if err != nil {
		return err
	}
	change, err := store.Import(ctx)
	if err != nil {
		return err
	}
	defer change.Rollback()
	for {
		user, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if _, err := change.Add(ctx, []directory.User{user}); err != nil {
			return err
		}
	}
	_, err = change.Commit(ctx)
	return err
}

// reportOnSignal tells what a leak would show in.
func reportOnSignal(ctx context.Context) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
		}
		// Twice: a finalizer of the first collection may free more.
		runtime.GC()
		debug.FreeOSMemory()
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		fmt.Printf("goroutines %d heap %d stacks %d\n", runtime.NumGoroutine(), memory.HeapAlloc, memory.StackInuse)
	}
}
