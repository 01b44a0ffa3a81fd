package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/server/api"
	"example.com/roster/server/call"
)

// envelopeBytes is what gRPC and gRPC-Web have before a message: flags, length.
const envelopeBytes = 5

// boundBody is a request's body that is still to come: one message. Its read
// fails when nothing has come for timeout, and when the message is too long; and
// when it is long, or has ended and its size is known, the request waits for its
// share of the connection's budget. One
// timer serves the whole body: a read only notes the time, and the timer looks
// at that when it fires.
type boundBody struct {
	io.ReadCloser
	request *http.Request
	control *http.ResponseController
	timeout time.Duration
	share   share
	// budgeted: the reply is one message, and to be paid for.
	budgeted bool
	size     int64 // bytes read
	// enveloped: the message has its length before it.
	enveloped bool

	mu      sync.Mutex
	timer   *time.Timer
	last    time.Time // when bytes came last
	stopped bool      // the body has ended, or the handler has returned
}

// Read implements io.Reader.
func (b *boundBody) Read(p []byte) (int, error) {
	n, err := b.read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, late(b.request.Context(), connect.NewError(connect.CodeDeadlineExceeded,
			fmt.Errorf("the request's body stood still for %v", b.timeout)))
	}
	if b.tooLong(p[:n]) {
		return 0, b.discard()
	}
	b.size += int64(n)
	if b.budgeted && (err == io.EOF || b.size > longRequest) {
		if err := b.share.take(b.request.Context(), unpackedSize(b.request, b.size)); err != nil {
			return n, gone(b.request.Context(), err)
		}
	}
	return n, err
}

func (b *boundBody) read(p []byte) (int, error) {
	b.note(nil)
	n, err := b.ReadCloser.Read(p)
	b.note(err)
	return n, err
}

// tooLong tells that a message is longer than it may be, by what comes next of
// it: by the length that it says it has, or by the one that it has.
func (b *boundBody) tooLong(next []byte) bool {
	if !b.enveloped {
		return b.size+int64(len(next)) > api.MaxMessageBytes
	}
	return b.size == 0 && len(next) >= envelopeBytes && binary.BigEndian.Uint32(next[1:]) > api.MaxMessageBytes
}

// discard reads on for a while, for those clients that read no reply while they
// still have to send.
func (b *boundBody) discard() error {
	buffer := make([]byte, 32<<10)
	for {
		if _, err := b.read(buffer); err != nil {
			return api.TooLong()
		}
	}
}

// late is the error of a request that waited in vain: that of the call's
// deadline if it has passed, else why.
func late(ctx context.Context, why *connect.Error) *connect.Error {
	if c := call.From(ctx); c != nil {
		if limit, over := c.Overdue(); over {
			return api.OverdueError(limit)
		}
	}
	return why
}

// gone is the error of a request whose context has ended.
func gone(ctx context.Context, err error) *connect.Error {
	return late(ctx, connect.NewError(connect.CodeCanceled, err))
}

// Close does nothing: the server closes the body after the handler, and then
// reads the rest of it, which drainInTime bounds.
func (b *boundBody) Close() error { return nil }

func (b *boundBody) note(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.stopped:
	case err != nil:
		b.stopLocked()
	default:
		b.last = time.Now()
		if b.timer == nil {
			b.timer = time.AfterFunc(b.left(), b.check)
		}
	}
}

// left is how long the read may still wait, in all and for the call's deadline.
func (b *boundBody) left() time.Duration {
	left := b.timeout - time.Since(b.last)
	if deadline, ok := b.request.Context().Deadline(); ok {
		left = min(left, time.Until(deadline))
	}
	return left
}

// check ends the read under way if it has waited for as long as it may.
func (b *boundBody) check() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return
	}
	if left := b.left(); left > 0 {
		b.timer.Reset(left)
		return
	}
	// A deadline in the past; a server that cannot set one has timers of its own.
	_ = b.control.SetReadDeadline(time.Unix(1, 0))
}

// stop is called before the handler returns: its request may not be touched
// after that.
func (b *boundBody) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopLocked()
}

func (b *boundBody) stopLocked() {
	b.stopped = true
	if b.timer != nil {
		b.timer.Stop()
	}
}

// drainInTime bounds what net/http does when an HTTP/1.1 handler has returned
// and left some of the body: it reads on, for ever if need be, to be able to
// use the connection again.
func drainInTime(next http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 && r.Body != http.NoBody {
			// The next request on the connection sets a deadline of its own.
			defer func() { _ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout)) }()
		}
		next.ServeHTTP(w, r)
	})
}

// stallListener gives each of its connections a stallConn.
type stallListener struct {
	net.Listener
	timeout time.Duration
	stats   *Stats
	parting *parting
}

// Accept implements net.Listener.
func (l stallListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.stats.accepted.Add(1)
	l.parting.conns.Add(1)
	return &stallConn{Conn: conn, timeout: l.timeout, stats: l.stats, parting: l.parting}, nil
}

// A stallConn fails a write of which nothing leaves for timeout: the peer has
// stopped reading, or is gone. A slow peer that reads on is not cut however
// long a reply takes, since each piece has a deadline of its own.
type stallConn struct {
	net.Conn
	timeout time.Duration
	stats   *Stats
	closed  atomic.Bool
	parting *parting
	settled atomic.Bool // counted in parting no more
}

const stallPiece = 64 << 10

// Write implements net.Conn.
func (c *stallConn) Write(p []byte) (written int, err error) {
	for {
		piece := p[written:min(len(p), written+stallPiece)]
		if err := c.Conn.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(piece)
		written += n
		if written == len(p) || err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return written, err
		}
	}
}

// Close implements net.Conn. It may be called more than once.
func (c *stallConn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.stats.closed.Add(1)
	}
	c.partedWith()
	return c.Conn.Close()
}

// partedWith notes that the connection is HTTP/2, or closed.
func (c *stallConn) partedWith() {
	if c.settled.CompareAndSwap(false, true) {
		c.parting.conns.Add(-1)
	}
}

// CloseWrite lets net/http end a reply that refuses a request, and wait for
// the peer to read it before the connection is reset.
func (c *stallConn) CloseWrite() error { return closeWrite(c.Conn) }

// closeWrite is the CloseWrite of conn, if it has one.
func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
