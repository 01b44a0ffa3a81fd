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
	expects bool        // the client waits for 100 (Continue); owned by the handler

	mu       sync.Mutex
	ready    sync.Cond
	buf      []byte // buf[r:] is unread
	r        int
	pooled   *buffer // backs buf, unless first or the garbage collector does
	err      error   // what Read returns once buf is empty
	complete bool    // the peer has ended its side: no more credit for the stream is due
	closed   bool
	deadline *time.Timer
	first    [128]byte // holds the body of a small RPC without another allocation
}

func (b *requestBody) init(s *stream) {
	b.s = s
	b.ready.L = &b.mu
	b.buf = b.first[:0]
}

// append adds p. It returns false when nobody is going to read it.
func (b *requestBody) append(p []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.err != nil {
		return false
	}
	if b.r > 0 && len(b.buf)+len(p) > cap(b.buf) {
		b.buf = b.buf[:copy(b.buf, b.buf[b.r:])]
		b.r = 0
	}
	if b.pooled == nil && cap(b.buf) == len(b.first) && len(b.buf)+len(p) > cap(b.buf) && len(b.buf)+len(p) <= smallBuffer {
		b.pooled = b.s.c.srv.buffers.get(smallBuffer)
		b.buf = append(b.pooled.b, b.buf...)
	}
	b.buf = append(b.buf, p...)
	b.ready.Broadcast()
	return true
}

// end records why there will be no more bytes: io.EOF or an error. The first reason stays.
func (b *requestBody) end(err error, complete bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complete = b.complete || complete
	if b.err == nil {
		b.err = err
		b.ready.Broadcast()
	}
}

// Read implements io.Reader for the handler.
func (b *requestBody) Read(p []byte) (int, error) {
	if b.expects {
		b.expects = false
		b.s.c.sendContinue(b.s)
	}
	b.mu.Lock()
	for b.r == len(b.buf) && b.err == nil && !b.closed && len(p) > 0 {
		b.ready.Wait()
	}
	switch {
	case b.closed:
		b.mu.Unlock()
		return 0, errBodyClosed
	case b.err == errReadLate || b.r == len(b.buf) && b.err != nil:
		err := b.err
		b.mu.Unlock()
		if err == io.EOF {
			b.copyTrailer()
		}
		return 0, err
	}
	n := copy(p, b.buf[b.r:])
	b.r += n
	if b.r == len(b.buf) {
		b.rewind()
	}
	complete := b.complete
	b.mu.Unlock()
	b.s.c.credit(b.s, n, !complete)
	return n, nil
}

// rewind starts anew at the front of an empty buffer. Unusually large ones are dropped, so a stream that was behind
// once does not keep its window's worth of memory for good.
func (b *requestBody) rewind() {
	b.r = 0
	b.buf = b.buf[:0]
	if cap(b.buf) > 2*largeBuffer {
		b.buf = b.first[:0]
	}
}

// copyTrailer fills in the trailers that the request announced, as net/http does: those alone, and at EOF.
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
	unread := len(b.buf) - b.r
	b.buf, b.r = nil, 0
	b.s.c.srv.buffers.put(b.pooled)
	b.pooled = nil
	if b.deadline != nil {
		b.deadline.Stop()
	}
	b.ready.Broadcast()
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
