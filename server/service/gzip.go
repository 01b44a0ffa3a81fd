package service

import (
	"compress/gzip"
	"io"

	"connectrpc.com/connect"

	"example.com/roster/internal/boundedgzip"
	"example.com/roster/server/rpc"
)

func gzipCompression(policy rpc.Policy) connect.HandlerOption {
	return connect.WithCompression("gzip",
		func() connect.Decompressor {
			return boundedgzip.New(int64(policy.MessageLimit()), func() error { return policy.TooLong() })
		},
		func() connect.Compressor { return gzip.NewWriter(io.Discard) },
	)
}
