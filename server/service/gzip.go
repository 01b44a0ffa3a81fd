package service

import (
	"compress/gzip"
	"io"

	"connectrpc.com/connect"

	"example.com/roster/server/rpc"
)

// gzipReader stops a gzip bomb. Connect refuses a message that unpacks to more
// than the limit, but unpacks all of it first, only to say how long it was:
// 4 MiB of gzip can be 4 GiB. This ends one byte past the limit.
type gzipReader struct {
	gzip.Reader
	left int64
}

// Reset implements connect.Decompressor.
func (r *gzipReader) Reset(source io.Reader) error {
	r.left = rpc.MaxMessageBytes + 1
	return r.Reader.Reset(source)
}

// Read implements io.Reader.
func (r *gzipReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, rpc.TooLong()
	}
	n, err := r.Reader.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if r.left == 0 {
		return n, rpc.TooLong()
	}
	return n, err
}

func gzipCompression() connect.HandlerOption {
	return connect.WithCompression("gzip",
		func() connect.Decompressor { return &gzipReader{} },
		func() connect.Compressor { return gzip.NewWriter(io.Discard) },
	)
}
