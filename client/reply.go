package client

import (
	"compress/gzip"
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"

	"example.com/roster/client/internal/diagnose"
	"example.com/roster/internal/boundedgzip"
)

// MaxReplyBytes is the longest reply that a Client accepts, before and after decompression. It is
// gRPC's default, and the longest reply that Roster sends. A longer reply fails with
// RESOURCE_EXHAUSTED and ReasonReplyTooLarge.
const MaxReplyBytes = 4 << 20

// maxReplyBodyBytes adds room for the message's envelope and for the trailers that gRPC-Web sends
// in the body.
const maxReplyBodyBytes = MaxReplyBytes + 64<<10

var errReplyTooLarge = errors.New("the reply is longer than 4 MiB")

// replyBody is a response's body that fails beyond maxReplyBodyBytes, which connect would read to
// its end, and records the error with which the response broke off.
type replyBody struct {
	io.ReadCloser
	ctx  context.Context // of the call
	left int64
}

func (b *replyBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errReplyTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		diagnose.ObservationOf(b.ctx).Failed(err)
		err = resetIsUnavailable(b.ctx, err)
	}
	return n, err
}

// newReplyGzip decompresses gzip, and fails a little beyond MaxReplyBytes: with a gzip bomb Connect
// would decompress until long after the caller's deadline.
func newReplyGzip() connect.Decompressor {
	return boundedgzip.New(maxReplyBodyBytes, func() error { return errReplyTooLarge })
}

func newRequestGzip() connect.Compressor { return gzip.NewWriter(io.Discard) }
