package service

import (
	"connectrpc.com/connect"

	"example.com/roster/internal/inflate"
	"example.com/roster/server/rpc"
)

// compressions are those of rpc.Compressions, with a bound on what a request unpacks to. Connect prefers
// what is registered last where a client has no preference.
func compressions(policy rpc.Policy) connect.HandlerOption {
	compression := func(format inflate.Format) connect.HandlerOption {
		return connect.WithCompression(format.String(),
			func() connect.Decompressor {
				return inflate.New(format, int64(policy.MessageLimit()), func() error { return policy.TooLong() })
			},
			format.NewCompressor)
	}
	return connect.WithHandlerOptions(compression(inflate.Deflate), compression(inflate.Gzip))
}
