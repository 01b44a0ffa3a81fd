// Package service is what the port answers: a file for each service (myservice, directory, health,
// reflection), and what they share: codecs, the one table from errors of the domain to codes,
// validation. Access and limits are in package gate.
//
//	table, err := rpc.NewTable(service.Mounts(service.Config{
//		Directory: dir, MaxBatch: 10_000, MaxWatches: 10_000, Log: log,
//		Table: func() *rpc.Table { return current.Load() },
//	})...)
package service

import (
	"log/slog"
	"path"

	"connectrpc.com/connect"

	"example.com/roster/directory"
	"example.com/roster/server/drain"
	"example.com/roster/server/rpc"
)

// compressMinBytes is what a reply must have to be worth compressing: one that fits a network
// packet is not.
const compressMinBytes = 1024

// Config is what the services need. Every field but Directory, Imports and Drain must be set.
type Config struct {
	// Directory answers look-ups; without it, MyService and DirectoryService are not mounted.
	Directory *directory.Directory
	// MaxBatch is how many ids or entries one call may have.
	MaxBatch int
	// MaxWatches is how many calls may follow the port's health at a time, and how many the users.
	MaxWatches int
	// Imports are the limits of ImportUsers.
	Imports ImportLimits
	// Drain tells whether the port is on its way out; nil never is.
	Drain *drain.State
	// Table returns everything that the port answers at the moment: health and reflection tell of
	// it.
	Table func() *rpc.Table
	// Log gets the errors that callers are not shown.
	Log *slog.Logger
}

// Mounts returns every service of Roster.
func Mounts(config Config) []rpc.Mount {
	var mounts []rpc.Mount
	if config.Directory != nil {
		mounts = append(mounts, myServiceMount(config), directoryMount(config))
	}
	return append(append(mounts, healthMount(config)), reflectionMounts(config)...)
}

// HandlerOptions are the options of every handler of the port: limits, codecs, and how errors and
// panics are reported. The methods have no limit of their own for their requests.
func HandlerOptions(log *slog.Logger) connect.HandlerOption { return handlerOptions(log, nil) }

// handlerOptions are those of a service with these policies, by the name of the method.
func handlerOptions(log *slog.Logger, policies map[string]rpc.Policy) connect.HandlerOption {
	return connect.WithHandlerOptions(
		connect.WithSendMaxBytes(rpc.MaxMessageBytes),
		connect.WithCompressMinBytes(compressMinBytes),
		codecs(),
		connect.WithInterceptors(newErrorInterceptor(log)),
		connect.WithConditionalHandlerOptions(func(spec connect.Spec) []connect.HandlerOption {
			policy, known := policies[path.Base(spec.Procedure)]
			limit := messageLimit{}
			if known {
				limit.policy = &policy
			}
			return []connect.HandlerOption{
				connect.WithReadMaxBytes(policy.MessageLimit()),
				compressions(policy),
				connect.WithInterceptors(limit),
			}
		}),
	)
}

// lookUp is the policy of a method that answers a look-up of up to maxBatch ids. An id takes up to
// 11 bytes in protobuf. In JSON it takes up to 14, with quotes and a comma, and has a line of its
// own in indented text: idBytes leaves room for that. A little more is allowed for the rest of the
// message, and so that a message in the query of a GET, which is bounded by the header, is never
// too long.
func lookUp(maxBatch int) rpc.Policy {
	const idBytes, rest = 32, 16 << 10
	limit := rpc.MaxMessageBytes
	if maxBatch < (limit-rest)/idBytes {
		limit = rest + idBytes*maxBatch
	}
	return rpc.Policy{Role: rpc.Reader, Upstream: rpc.Store, MaxMessage: limit, MessageFlag: "--max-batch"}
}

// smallMessage is the maximum size of a request that has at most a name in it, in bytes.
const smallMessage = 2 << 10
