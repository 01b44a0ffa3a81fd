// Package service is what the port answers: a file for each service (myservice, directory, health,
// reflection), and what they share: codecs, the one table from errors of the domain to codes,
// validation. Who may call, how much and for how long is package gate's matter.
//
//	table, err := rpc.NewTable(service.Mounts(service.Config{
//		Directory: dir, MaxBatch: 10_000, MaxWatches: 10_000, Log: log,
//		Table: func() *rpc.Table { return current.Load() },
//	})...)
package service

import (
	"log/slog"

	"connectrpc.com/connect"

	"example.com/roster/directory"
	"example.com/roster/server/drain"
	"example.com/roster/server/rpc"
)

// compressMinBytes is what a reply must have to be worth compressing: one that fits a network packet
// is not.
const compressMinBytes = 1024

// Config is what the services need. Every field but Drain must be set.
type Config struct {
	Directory *directory.Directory
	// MaxBatch is how many ids one call may have.
	MaxBatch int
	// MaxWatches is how many calls may follow the port's health at a time.
	MaxWatches int
	// Drain tells whether the port is on its way out; nil never is.
	Drain *drain.State
	// Table returns everything that the port answers at the moment: health and reflection tell of it.
	Table func() *rpc.Table
	// Log gets the errors that callers are not shown.
	Log *slog.Logger
}

// Mounts returns every service of Roster.
func Mounts(config Config) []rpc.Mount {
	return append([]rpc.Mount{
		myServiceMount(config),
		directoryMount(config),
		healthMount(config),
	}, reflectionMounts(config)...)
}

// HandlerOptions is what all handlers of the port share: limits, codecs, and
// what becomes of errors and panics.
func HandlerOptions(log *slog.Logger) connect.HandlerOption {
	return connect.WithHandlerOptions(
		connect.WithReadMaxBytes(rpc.MaxMessageBytes),
		connect.WithSendMaxBytes(rpc.MaxMessageBytes),
		connect.WithCompressMinBytes(compressMinBytes),
		gzipCompression(),
		codecs(),
		connect.WithInterceptors(newErrorInterceptor(log)),
	)
}
