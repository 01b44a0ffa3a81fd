package h2

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

var (
	errBodyClosed = errors.New("h2: request body read after Close")
	errBodyMemory = errors.New("h2: no memory for the body of a request")
	errReadLate   = fmt.Errorf("h2: request body: %w", os.ErrDeadlineExceeded)
)

// requestBody is the body of one request. The reader goroutine appends to it, the handler reads
// from it. It never holds more than the stream's flow-control window, because the peer gets new
// credit only for bytes that the handler has read.
type requestBody struct {
	s         *stream
	announced http.Header // the map Request.Trailer, with the keys that the request announced, or nil
	trailer   http.Header // from the peer, to be copied to announced at EOF

	mu       sync.Mutex
	wake     chan struct{} // where Read waits; made by the first Read that has to wait
	buf      []byte        // buf[r:] is unread, and comes before what is in more
	r        int
	pooled   *buffer   // backs buf, unless first does
	more     []*buffer // filled one after the other
	size     int       // all unread bytes
	err      error     // what Read returns once buf is empty
	complete bool      // the peer has ended its side, so the stream needs no more credit
	closed   bool
	expects  bool // the client waits for status 100; used by the handler only, not guarded by mu
	deadline *time.Timer
	first    [48]byte // holds a very short body without another allocation
}

func (b *requestBody) init(s *stream) {
	b.s = s
	b.buf = b.first[:0]
}

// Complete implements Body.
func (b *requestBody) Complete() (size int64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(b.size), b.complete && b.err == io.EOF
}

// append adds p. It returns how much of it will not be read: all if the body is closed or has ended,
// and what finds no memory, with errBodyMemory.
func (b *requestBody) append(p []byte) (dropped int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.err != nil {
		return len(p), nil
	}
	b.size += len(p)
	if len(b.more) == 0 && len(p) <= cap(b.buf)-len(b.buf) {
		b.buf = append(b.buf, p...)
		p = nil
	}
	for len(p) > 0 {
		last := len(b.more) - 1
		if last < 0 || len(b.more[last].b) == cap(b.more[last].b) {
			// A body that does not fit one small buffer gets large ones.
			size := smallBuffer
			if len(p) > smallBuffer || last >= 0 {
				if size = largeBuffer; !b.s.c.share.allows(size) {
					b.size -= len(p)
					return len(p), errBodyMemory
				}
			}
			b.more = append(b.more, b.s.c.srv.buffers.get(size))
			b.s.c.share.chargeBuffer(b.more[len(b.more)-1])
			last++
		}
		into := b.more[last]
		n := min(len(p), cap(into.b)-len(into.b))
		into.b = append(into.b, p[:n]...)
		p = p[n:]
	}
	b.signal()
	return 0, nil
}

// end records why there will be no more bytes: io.EOF or an error. Later reasons are ignored.
func (b *requestBody) end(err error, complete bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complete = b.complete || complete
	if b.err == nil {
		b.err = err
		b.signal()
	}
}

// signal wakes the handler if it waits for bytes. b.mu is held.
func (b *requestBody) signal() {
	if b.wake != nil {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
}

// Read implements io.Reader for the handler.
func (b *requestBody) Read(p []byte) (int, error) {
	if b.expects {
		b.expects = false
		b.s.c.sendContinue(b.s)
	}
	b.mu.Lock()
	for b.size == 0 && b.err == nil && !b.closed && len(p) > 0 {
		if b.wake == nil {
			b.wake = make(chan struct{}, 1)
		}
		b.mu.Unlock()
		<-b.wake
		b.mu.Lock()
	}
	switch {
	case b.closed:
		b.signal() // wakes the next waiting Read; so do the calls below
		b.mu.Unlock()
		return 0, errBodyClosed
	case b.err == errReadLate || b.size == 0 && b.err != nil:
		err := b.err
		if err == io.EOF {
			b.copyTrailer()
		}
		b.signal()
		b.mu.Unlock()
		return 0, err
	}
	n := 0
	for n < len(p) && b.size > 0 {
		if b.r == len(b.buf) {
			b.advance()
		}
		k := copy(p[n:], b.buf[b.r:])
		b.r += k
		b.size -= k
		n += k
	}
	if b.size == 0 {
		b.rewind()
	} else {
		b.signal()
	}
	complete := b.complete
	b.mu.Unlock()
	b.s.c.credit(b.s, n, !complete)
	return n, nil
}

// advance moves on to the next buffer.
func (b *requestBody) advance() {
	b.s.c.srv.buffers.put(b.pooled)
	b.pooled = b.more[0]
	b.more[0] = nil
	b.more = b.more[1:]
	b.buf, b.r = b.pooled.b, 0
}

// rewind empties the buffer once everything has been read. A large buffer is returned to its pool,
// so a stream whose handler once fell behind does not keep that memory.
func (b *requestBody) rewind() {
	b.r, b.buf = 0, b.buf[:0]
	if cap(b.buf) > smallBuffer {
		b.buf = b.first[:0]
		b.s.c.srv.buffers.put(b.pooled)
		b.pooled = nil
	}
}

// copyTrailer sets the trailers that the request announced, at EOF and ignoring any others, as
// net/http does. The handler may have replaced the request by then, but its copy has the same map.
// b.mu is held.
func (b *requestBody) copyTrailer() {
	for k, v := range b.trailer {
		if _, ok := b.announced[k]; ok {
			b.announced[k] = v
		}
	}
	b.trailer = nil
}

// Close implements io.Closer. Bytes that have arrived or are still to come are dropped and their
// credit is returned to the peer.
func (b *requestBody) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	unread := b.size
	b.s.c.srv.buffers.put(b.pooled)
	for _, m := range b.more {
		b.s.c.srv.buffers.put(m)
	}
	b.buf, b.r, b.pooled, b.more, b.size = nil, 0, nil, nil, 0
	if b.deadline != nil {
		b.deadline.Stop()
	}
	b.signal()
	b.mu.Unlock()
	b.s.c.credit(b.s, unread, false)
	return nil
}

// setDeadline makes reads fail from t on. The zero time removes a deadline that has not passed.
func (b *requestBody) setDeadline(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.s == nil {
		return
	}
	if b.deadline != nil {
		b.deadline.Stop()
		b.deadline = nil
	}
	if t.IsZero() {
		return
	}
	b.deadline = time.AfterFunc(time.Until(t), func() { b.end(errReadLate, false) })
}
