package bridge

import (
	stdgzip "compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/mem"
)

// An unpacker decompresses the replies of an upstream, each only once there is room for what it may turn
// out to be. grpc-go's own would decompress all at once, and could not be ended.
type unpacker struct {
	memory *memory
	most   int // bytes of a message
	// tooLong returns most+1 bytes, which are the same for all messages that are too long: nobody reads them, so
	// they take no memory.
	tooLong func() []byte
}

func newUnpacker(memory *memory, most int) *unpacker {
	return &unpacker{memory, most, sync.OnceValue(func() []byte { return make([]byte, most+1) })}
}

// gzipRatio is how much longer than its gzip a message may be (RFC 1951 §3.2.5: 258 bytes for two bits).
const gzipRatio = 1032

// Type implements grpc.Decompressor.
func (u *unpacker) Type() string { return gzip.Name }

// Do implements grpc.Decompressor. Of a message that is too long it returns one byte more than allowed.
func (u *unpacker) Do(r io.Reader) ([]byte, error) {
	size := u.most + 1
	if known, ok := r.(interface{ Remaining() int }); ok {
		size = min(size, known.Remaining()*gzipRatio)
	}
	m := u.memory
	m.mu.Lock()
	_ = m.waitLocked(context.Background(), func() bool { return m.used+int64(size) <= m.limit || !m.anyLocked() }, m.relieve)
	wanted := m.anyLocked()
	m.used += int64(size)
	m.mu.Unlock()
	defer func() { // the call charges the message that it gets
		m.mu.Lock()
		defer m.mu.Unlock()
		m.used -= int64(size)
		m.wakeLocked()
	}()
	if !wanted {
		return nil, errors.New("the call has been ended")
	}
	reader, _ := readers.Get().(*stdgzip.Reader)
	if reader == nil {
		reader = new(stdgzip.Reader)
	}
	defer readers.Put(reader)
	if err := reader.Reset(r); err != nil {
		return nil, err
	}
	out := m.room(min(size, 4<<10))
	for {
		n, err := reader.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		switch {
		case len(out) > u.most:
			m.done(out)
			return u.tooLong(), nil
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, err
		case len(out) == cap(out):
			larger := append(m.room(min(2*cap(out), u.most+1)), out...)
			m.done(out)
			out = larger
		}
	}
}

// room returns an empty buffer with a capacity of size, one that was used before if there is one.
func (m *memory) room(size int) []byte {
	if used, _ := m.unpacked[bits.Len(uint(size))].Get().(*[]byte); used != nil && cap(*used) >= size {
		return (*used)[:0:size]
	}
	return make([]byte, 0, size)
}

// done takes a buffer of room that nobody uses any more.
func (m *memory) done(buffer []byte) {
	if cap(buffer) > smallMessage {
		m.unpacked[bits.Len(uint(cap(buffer)))].Put(&buffer)
	}
}

// whole returns a message in one piece, which may be used until free is called.
func (m *memory) whole(message mem.BufferSlice) (wire []byte, free func()) {
	if len(message) == 1 {
		return message[0].ReadOnlyData(), func() {}
	}
	wire = m.room(message.Len())[:message.Len()]
	message.CopyTo(wire)
	return wire, func() { m.done(wire) }
}

// readers are gzip readers, of 40 KB each.
var readers sync.Pool

// deflate is the other compression of gRPC's C core (RFC 1950, by the name that gRPC gives it). A Python
// server that was told to use it does so whatever its caller accepts.
//
// It is registered for the whole program, since a connection has one Decompressor, and it knows nothing of
// the upstream. So messages are decompressed one after the other, and only up to maxDeflated: then no more
// than one takes room that memory has not, since memory.Get waits only as long as there are calls, and bombs
// do no harm.
type deflate struct{ turn chan struct{} }

func init() { encoding.RegisterCompressor(deflate{make(chan struct{}, 1)}) }

// Name implements encoding.Compressor.
func (deflate) Name() string { return "deflate" }

// Compress implements encoding.Compressor.
func (deflate) Compress(w io.Writer) (io.WriteCloser, error) { return zlib.NewWriter(w), nil }

// Decompress implements encoding.Compressor. grpc-go reads up to the limit of a message, into buffers of
// memory, and then closes what it is given.
func (d deflate) Decompress(r io.Reader) (io.Reader, error) {
	d.turn <- struct{}{}
	reader, err := zlib.NewReader(r)
	if err != nil {
		<-d.turn
		return nil, err
	}
	return &inflating{reader, d.turn, maxDeflated}, nil
}

// maxDeflated is the maximum size in bytes of a reply in deflate. With gzip, which servers rather use, it is
// that of every reply.
const maxDeflated = 256 << 10

// inflating is a message that is being decompressed.
type inflating struct {
	io.ReadCloser
	turn chan struct{}
	left int // bytes that it may still have
}

// Read implements io.Reader.
func (i *inflating) Read(p []byte) (int, error) {
	n, err := i.ReadCloser.Read(p)
	if i.left -= n; i.left < 0 {
		return 0, fmt.Errorf("a reply in deflate is longer than %d bytes, the maximum (a fixed limit, no flag): have the server compress with gzip, or not", maxDeflated)
	}
	return n, err
}

// Close lets the next message be decompressed.
func (i *inflating) Close() error {
	<-i.turn
	return i.ReadCloser.Close()
}
