// Package inflate decompresses gzip and deflate up to a bound. Connect refuses a message that unpacks
// to more than its limit, but unpacks all of it first, only to say how long it was: 4 MiB of gzip can
// be 4 GiB.
//
//	connect.WithCompression(inflate.Deflate.String(),
//		func() connect.Decompressor { return inflate.New(inflate.Deflate, 4<<20, tooLong) },
//		inflate.Deflate.NewCompressor)
package inflate

import (
	"compress/gzip"
	"compress/zlib"
	"io"

	"connectrpc.com/connect"
)

// Format is a format of compressed data. Both compress alike (RFC 1951), and differ in what stands
// around the data.
type Format uint8

// The formats.
const (
	Gzip    Format = iota // RFC 1952
	Deflate               // RFC 1950: HTTP and gRPC call the format zlib by this name
)

// Formats lists the formats.
var Formats = [...]Format{Gzip, Deflate}

// String is the format's name in HTTP and in gRPC.
func (f Format) String() string {
	if f == Deflate {
		return "deflate"
	}
	return "gzip"
}

// ParseFormat is the opposite of String. It reports false for any other name.
func ParseFormat(name string) (Format, bool) {
	for _, f := range Formats {
		if name == f.String() {
			return f, true
		}
	}
	return 0, false
}

// NewCompressor returns a compressor to the format.
func (f Format) NewCompressor() connect.Compressor {
	if f == Deflate {
		return zlib.NewWriter(io.Discard)
	}
	return gzip.NewWriter(io.Discard)
}

// A message of n bytes has at least frame + n/ratio bytes in either format: zlib has the smaller frame,
// a header of two bytes and a checksum of four, and 258 bytes take two bits (RFC 1951 §3.2.5).
const (
	frame = 6
	ratio = 1032
)

// Most is the size that compressed data may have at most once it is decompressed.
func Most(compressed int64) int64 { return max(0, (compressed-frame)*ratio) }

// A Reader decompresses up to a number of bytes, and fails at the next one. It is a
// connect.Decompressor: Reset begins another message.
type Reader struct {
	format  Format
	gzip    gzip.Reader
	zlib    io.ReadCloser // nil before the first Reset, which needs data
	current io.Reader

	max, left int64
	tooLong   func() error
}

// New returns a Reader for messages of up to maxBytes each, decompressed. A longer one fails with the
// error that tooLong returns.
func New(format Format, maxBytes int64, tooLong func() error) *Reader {
	return &Reader{format: format, max: maxBytes, tooLong: tooLong}
}

// Reset begins a message that comes compressed from source.
func (r *Reader) Reset(source io.Reader) error {
	r.left = r.max + 1
	if r.format == Gzip {
		r.current = &r.gzip
		return r.gzip.Reset(source)
	}
	if r.zlib != nil {
		return r.zlib.(zlib.Resetter).Reset(source, nil)
	}
	unpacker, err := zlib.NewReader(source)
	if err != nil {
		return err
	}
	r.zlib, r.current = unpacker, unpacker
	return nil
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, r.tooLong()
	}
	n, err := r.current.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if r.left == 0 {
		return n, r.tooLong()
	}
	return n, err
}

// Close implements connect.Decompressor. There is nothing to close, and what was wrong with a message
// has been reported by Read.
func (r *Reader) Close() error { return nil }
