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
	errReadLate   = fmt.Errorf("h2: request body: %w", os.ErrDeadlineExceeded)
)

// requestBody is the body of one request. The reader goroutine appends to it, the handler reads from it. What it
// holds is bounded by the stream's flow-control window, since credit goes back to the peer only as bytes are read.
type requestBody struct {
	s       *stream
	trailer http.Header // from the peer, to be copied to Request.Trailer at EOF

	mu       sync.Mutex
	wake     chan struct{} // where Read waits; made by the first that has to
	buf      []byte        // buf[r:] is unread, and comes before what is in more
	r        int
	pooled   *buffer   // backs buf, unless first does
	more     []*buffer // filled in turn
	size     int       // unread bytes altogether
	err      error     // what Read returns once buf is empty
	complete bool      // the peer has ended its side: no more credit for the stream is due
	closed   bool
	expects  bool // the client waits for 100 (Continue); the handler's, not guarded by mu
	deadline *time.Timer
	first    [48]byte // holds the body of a small RPC without another allocation
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

// append adds p. It returns false when nobody is going to read it.
func (b *requestBody) append(p []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.err != nil {
		return false
	}
	b.size += len(p)
	if len(b.more) == 0 && len(p) <= cap(b.buf)-len(b.buf) {
		b.buf = append(b.buf, p...)
		p = nil
	}
	for len(p) > 0 {
		last := len(b.more) - 1
		if last < 0 || len(b.more[last].b) == cap(b.more[last].b) {
			// A large one for a body that is more than a few messages.
			size := smallBuffer
			if len(p) > smallBuffer || last >= 0 {
				size = largeBuffer
			}
			b.more = append(b.more, b.s.c.srv.buffers.get(size))
			last++
		}
		into := b.more[last]
		n := min(len(p), cap(into.b)-len(into.b))
		into.b = append(into.b, p[:n]...)
		p = p[n:]
	}
	b.signal()
	return true
}

// end records why there will be no more bytes: io.EOF or an error. The first reason stays.
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
		b.signal() // for whoever else waits; so do those below
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

// advance goes on to the next buffer.
func (b *requestBody) advance() {
	b.s.c.srv.buffers.put(b.pooled)
	b.pooled = b.more[0]
	b.more[0] = nil
	b.more = b.more[1:]
	b.buf, b.r = b.pooled.b, 0
}

// rewind starts anew when nothing is unread. Large buffers go back, so a stream that was behind once does not keep its
// window's worth of memory for good.
func (b *requestBody) rewind() {
	b.r, b.buf = 0, b.buf[:0]
	if cap(b.buf) > smallBuffer {
		b.buf = b.first[:0]
		b.s.c.srv.buffers.put(b.pooled)
		b.pooled = nil
	}
}

// copyTrailer fills in the trailers that the request announced, as net/http does: those alone, at EOF. b.mu is held.
func (b *requestBody) copyTrailer() {
	for k, v := range b.trailer {
		if _, announced := b.s.req.Trailer[k]; announced {
			b.s.req.Trailer[k] = v
		}
	}
	b.trailer = nil
}

// Close implements io.Closer. Bytes that have arrived and those still to come are dropped, their credit returned.
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

// setDeadline makes reads fail from t on; the zero time lifts a deadline that has not passed.
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
