// Package boundedgzip decompresses gzip up to a bound. Connect refuses a message that unpacks to more
// than its limit, but unpacks all of it first, only to say how long it was: 4 MiB of gzip can be
// 4 GiB.
package boundedgzip

import (
	"compress/gzip"
	"io"
)

// A Reader decompresses up to a number of bytes, and fails at the next one. It is a
// connect.Decompressor: Reset begins another message.
type Reader struct {
	gzip.Reader

	max, left int64
	tooLong   func() error
}

// New returns a Reader for messages of up to maxBytes each, decompressed. A longer one fails with the
// error that tooLong returns.
func New(maxBytes int64, tooLong func() error) *Reader {
	return &Reader{max: maxBytes, tooLong: tooLong}
}

// Reset begins a message that comes compressed from source.
func (r *Reader) Reset(source io.Reader) error {
	r.left = r.max + 1
	return r.Reader.Reset(source)
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, r.tooLong()
	}
	n, err := r.Reader.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if r.left == 0 {
		return n, r.tooLong()
	}
	return n, err
}
