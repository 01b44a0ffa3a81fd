package service

import (
	"compress/gzip"
	"io"

	"connectrpc.com/connect"

	"example.com/roster/server/rpc"
)

// gzipReader stops unpacking one byte past the limit of the method. Connect has the same limit, but
// unpacks the whole message before it refuses it, only to report the size: 4 MiB of gzip can be 4 GiB.
type gzipReader struct {
	gzip.Reader
	policy rpc.Policy
	left   int64
}

// Reset implements connect.Decompressor.
func (r *gzipReader) Reset(source io.Reader) error {
	r.left = int64(r.policy.MessageLimit()) + 1
	return r.Reader.Reset(source)
}

// Read implements io.Reader.
func (r *gzipReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, r.policy.TooLong()
	}
	n, err := r.Reader.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if r.left == 0 {
		return n, r.policy.TooLong()
	}
	return n, err
}

func gzipCompression(policy rpc.Policy) connect.HandlerOption {
	return connect.WithCompression("gzip",
		func() connect.Decompressor { return &gzipReader{policy: policy} },
		func() connect.Compressor { return gzip.NewWriter(io.Discard) },
	)
}
