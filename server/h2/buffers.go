package h2

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Sizes of pooled buffers in bytes: for a short reply, for a socket read, and for a full output
// buffer.
const (
	smallBuffer = 4 << 10
	largeBuffer = 32 << 10
	hugeBuffer  = 128 << 10
)

// buffer is a byte slice that can be pooled without allocating a slice header. The buffer of a
// reply holds the reply's header fields too.
type buffer struct {
	b       []byte
	fields  []field
	share   *share // of the connection that is charged for it
	charged int
}

// maxFields is how many fields a pooled buffer has room for; most replies have fewer.
const maxFields = 16

// takeFields returns the buffer's slice of fields, emptied. A caller that appends to it must store
// the result in b.fields, at its full length, so that put clears all of it.
func (b *buffer) takeFields() []field {
	if b.fields == nil {
		b.fields = make([]field, 0, maxFields)
	}
	return b.fields[:0]
}

// bufferPools holds the buffers that no connection is using. Only memory that no handler can refer
// to is put there.
type bufferPools struct{ small, large, huge sync.Pool }

// get returns an empty buffer with room for size bytes, size being one of the three sizes.
func (p *bufferPools) get(size int) *buffer {
	pool := &p.small
	switch size {
	case largeBuffer:
		pool = &p.large
	case hugeBuffer:
		pool = &p.huge
	}
	if b, ok := pool.Get().(*buffer); ok {
		return b
	}
	return &buffer{b: make([]byte, 0, size)}
}

// put returns b to its pool. Buffers that have grown beyond the largest size are left to the
// garbage collector.
func (p *bufferPools) put(b *buffer) {
	if b == nil {
		return
	}
	if b.charged > 0 {
		b.share.give(b.charged)
	}
	b.share, b.charged = nil, 0
	b.b = b.b[:0]
	if cap(b.fields) > maxFields {
		b.fields = nil
	}
	clear(b.fields)
	b.fields = b.fields[:0]
	switch c := cap(b.b); {
	case c > 2*hugeBuffer || c < smallBuffer:
	case c >= hugeBuffer:
		p.huge.Put(b)
	case c >= largeBuffer:
		p.large.Put(b)
	default:
		p.small.Put(b)
	}
}

// readBuffer buffers what is read from the socket. It begins with a few hundred bytes, to keep idle
// connections small, and grows while reads fill it.
type readBuffer struct {
	src    deadlineReader
	pools  *bufferPools
	share  *share
	before func() (idle bool) // called before each read of src; an idle connection releases its buffer

	buf  []byte // buf[r:w] is unread
	r, w int
	big  *buffer // backs buf once first is too small
	full bool    // the last read filled buf

	grown    atomic.Bool // big is in use
	recalled atomic.Bool // the read deadline was set by recall
	last     atomic.Bool // the read deadline was set by linger

	first [424]byte // with more, the allocator would round conn up to the next size
}

// deadlineReader is the part of net.Conn that a readBuffer uses.
type deadlineReader interface {
	io.Reader
	SetReadDeadline(time.Time) error
}

func (b *readBuffer) init(src deadlineReader, pools *bufferPools, share *share, before func() bool) {
	b.src, b.pools, b.share, b.before = src, pools, share, before
	b.buf = b.first[:]
}

func (b *readBuffer) buffered() int { return b.w - b.r }

// Read implements io.Reader for the Framer.
func (b *readBuffer) Read(p []byte) (int, error) {
	if b.r == b.w {
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.buf[b.r:b.w])
	b.r += n
	return n, nil
}

// peek returns the next n bytes without consuming them. They are valid until the next call.
func (b *readBuffer) peek(n int) ([]byte, error) {
	for b.w-b.r < n {
		if len(b.buf)-b.r < n && !b.makeRoom(n) {
			return nil, errMemory
		}
		if err := b.fill(); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return b.buf[b.r : b.r+n], nil
}

// peekSome returns at least one and at most n unread bytes without consuming them. It reads from
// the socket if there are none.
func (b *readBuffer) peekSome(n int) ([]byte, error) {
	if b.r == b.w {
		if err := b.fill(); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return b.buf[b.r:min(b.w, b.r+n)], nil
}

// discard consumes n buffered bytes.
func (b *readBuffer) discard(n int) { b.r += n }

// skip consumes n bytes, buffered or not.
func (b *readBuffer) skip(n int) error {
	for n > 0 {
		p, err := b.peekSome(n)
		if err != nil {
			return err
		}
		b.discard(len(p))
		n -= len(p)
	}
	return nil
}

// fill reads once from the socket.
func (b *readBuffer) fill() error {
	idle := b.before()
	if b.r == b.w {
		b.r, b.w = 0, 0
		if idle {
			b.release()
		} else if b.full && len(b.buf) < largeBuffer {
			b.makeRoom(len(b.buf) + 1) // a larger buffer is quicker, but this one will do
		}
	}
	n, err := b.src.Read(b.buf[b.w:])
	for n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && b.recalled.Load() {
		if b.r == b.w {
			b.release()
		}
		err = b.src.SetReadDeadline(time.Time{})
		if b.last.Load() {
			b.linger() // it may have been removed just now
		}
		b.recalled.Store(false) // last, so that recall does not set a deadline that is removed at once
		if err == nil {
			n, err = b.src.Read(b.buf[b.w:])
		}
	}
	b.w += n
	b.full = b.w == len(b.buf)
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// makeRoom moves the unread bytes to a buffer that can hold n. It reports false if the server is short
// of memory.
func (b *readBuffer) makeRoom(n int) bool {
	old, unread := b.big, b.buf[b.r:b.w]
	switch {
	case n <= len(b.buf):
		copy(b.buf, unread)
		b.r, b.w = 0, len(unread)
		return true
	case n > smallBuffer && b.share != nil && !b.share.allows(max(n, largeBuffer)):
		return false
	case n <= smallBuffer:
		b.big = b.pools.get(smallBuffer)
	case n <= largeBuffer:
		b.big = b.pools.get(largeBuffer)
	default:
		b.big = &buffer{b: make([]byte, n)}
	}
	b.share.chargeBuffer(b.big)
	b.grown.Store(true)
	b.buf = b.big.b[:cap(b.big.b)]
	b.r, b.w = 0, copy(b.buf, unread)
	b.pools.put(old)
	return true
}

// recall makes a read that waits for a quiet peer continue with the small buffer: it fails the read by
// its deadline, and fill tries again.
func (b *readBuffer) recall() {
	if b.grown.Load() && !b.recalled.Swap(true) {
		// If it cannot be set, the connection has ended.
		_ = b.src.SetReadDeadline(time.Unix(1, 0))
	}
}

// linger gives the peer lingerTime to close the connection.
func (b *readBuffer) linger() {
	b.last.Store(true) // before the deadline is set, see fill
	_ = b.src.SetReadDeadline(time.Now().Add(lingerTime))
}

// release goes back to the first, small buffer. There must be no unread bytes.
func (b *readBuffer) release() {
	b.pools.put(b.big)
	b.big = nil
	b.grown.Store(false)
	b.buf = b.first[:]
	b.r, b.w, b.full = 0, 0, false
}
