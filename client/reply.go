package client

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"

	"example.com/roster/client/internal/diagnose"
	"example.com/roster/internal/inflate"
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

// compression decompresses replies in a format, and fails a little beyond MaxReplyBytes: with a gzip
// bomb Connect would decompress until long after the caller's deadline. Python gRPC servers compress
// with gzip or with deflate.
func compression(format inflate.Format) connect.ClientOption {
	return connect.WithAcceptCompression(format.String(), func() connect.Decompressor {
		return inflate.New(format, maxReplyBodyBytes, func() error { return errReplyTooLarge })
	}, format.NewCompressor)
}
