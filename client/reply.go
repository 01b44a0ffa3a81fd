package client

import (
	"compress/gzip"
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"
)

// MaxReplyBytes is the longest reply a Client accepts, before and after
// decompression: gRPC's own default, and the longest that Roster sends. A
// longer one fails with RESOURCE_EXHAUSTED and ReasonReplyTooLarge.
const MaxReplyBytes = 4 << 20

// maxReplyBodyBytes leaves room around the message for its envelope and for
// the trailers that gRPC-Web keeps in the body.
const maxReplyBodyBytes = MaxReplyBytes + 64<<10

var errReplyTooLarge = errors.New("the reply is longer than 4 MiB")

// replyBody ends a response that goes on beyond what a reply may hold, which
// connect would read to its end, and notes how a response broke off.
type replyBody struct {
	io.ReadCloser
	ctx  context.Context // of the call
	seen *sighting
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
		b.seen.broke(err)
		err = resetIsUnavailable(b.ctx, err)
	}
	return n, err
}

// replyGzip decompresses gzip, and stops a little beyond MaxReplyBytes. Connect
// would find out how long an over-long message is by inflating all of it, which
// takes a gzip bomb well past the caller's deadline.
type replyGzip struct {
	gzip.Reader

	left int64
}

func newReplyGzip() connect.Decompressor { return &replyGzip{} }

func newRequestGzip() connect.Compressor { return gzip.NewWriter(io.Discard) }

func (d *replyGzip) Reset(src io.Reader) error {
	d.left = maxReplyBodyBytes
	return d.Reader.Reset(src)
}

func (d *replyGzip) Read(p []byte) (int, error) {
	if d.left <= 0 {
		return 0, errReplyTooLarge
	}
	if int64(len(p)) > d.left {
		p = p[:d.left]
	}
	n, err := d.Reader.Read(p)
	d.left -= int64(n)
	return n, err
}
