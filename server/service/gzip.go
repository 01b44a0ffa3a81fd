package service

import (
	"compress/gzip"
	"io"

	"connectrpc.com/connect"

	"example.com/roster/internal/boundedgzip"
	"example.com/roster/server/rpc"
)

func gzipCompression() connect.HandlerOption {
	return connect.WithCompression("gzip",
		func() connect.Decompressor {
			return boundedgzip.New(rpc.MaxMessageBytes, func() error { return rpc.TooLong() })
		},
		func() connect.Compressor { return gzip.NewWriter(io.Discard) },
	)
}
