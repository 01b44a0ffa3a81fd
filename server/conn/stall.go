package conn

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// BoundLeftovers bounds how long net/http waits for the rest of a request's body that an HTTP/1.1
// handler left unread: net/http reads that rest in order to reuse the connection, and by itself
// would wait for it for ever.
func BoundLeftovers(next http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 && r.Body != http.NoBody {
			// The next request on the connection sets a deadline of its own.
			defer func() { _ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout)) }()
		}
		next.ServeHTTP(w, r)
	})
}

// stallListener wraps each accepted connection in a stallConn, and counts it.
type stallListener struct {
	net.Listener
	timeout time.Duration
	stats   *Stats
	drain   *HTTP1Drain
	limit   *limit
	heads   *heads
	log     *ErrorLog
}

// Accept implements net.Listener.
func (l stallListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &stallConn{Conn: conn, timeout: l.timeout, stats: l.stats, drain: l.drain, limit: l.limit, heads: l.heads,
			address: addressOf(conn), accepted: l.limit.now()}
		c.idleSince.Store(c.accepted) // until its first request
		// Counted before, since it may have to give way as soon as it is admitted.
		l.stats.accepted.Add(1)
		l.drain.conns.Add(1)
		if l.limit.admit(c) {
			return c, nil
		}
		l.stats.refused.Add(1)
		c.Close()
		l.log.tooManyConnections(conn.RemoteAddr().String(), l.limit.max)
	}
}

// A stallConn fails a write of which less than minProgress bytes leave in timeout: the peer has stopped
// reading, or has disconnected. A peer that reads slowly is not cut, however long a reply takes, unless
// SetWriteDeadline has set an end: the deadline of each piece starts anew.
type stallConn struct {
	net.Conn
	timeout time.Duration
	until   atomic.Int64 // set by SetWriteDeadline, in Unix nanoseconds; 0 is no deadline
	stats   *Stats
	closed  atomic.Bool
	drain   *HTTP1Drain
	left    atomic.Bool // drain no longer counts this connection
	limit   *limit
	address netip.Addr // that the limit attributes it to
	// accepted and idleSince are times of limit.now. idleSince is 0 while there is a request, and the
	// same as accepted before the first.
	accepted  int64
	idleSince atomic.Int64
	shutdown  func() // of an HTTP/2 connection; guarded by limit.mu
	counting  sync.Mutex
	requests  int // that are running, unless an engine tells when the connection is idle

	heads       *heads
	headMu      sync.Mutex
	head        int // bytes that have been read of a header
	headCharged int
}

const (
	// stallPiece is how many bytes are written under one deadline.
	stallPiece = 64 << 10
	// minProgress is the number of bytes that have to leave in each timeout.
	minProgress = 64
)

// Write implements net.Conn.
func (c *stallConn) Write(p []byte) (written int, err error) {
	for {
		piece := p[written:min(len(p), written+stallPiece)]
		if err := c.armWrite(); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(piece)
		written += n
		if written == len(p) || err != nil && (n < minProgress || !errors.Is(err, os.ErrDeadlineExceeded) || c.overdue()) {
			return written, err
		}
	}
}

// armWrite sets the deadline of a piece: the end of the stall timeout, or what SetWriteDeadline has set
// if that is earlier. If SetWriteDeadline is called meanwhile, armWrite looks again, because it may have
// replaced the deadline that was set there.
func (c *stallConn) armWrite() error {
	for {
		until := c.until.Load()
		deadline := time.Now().Add(c.timeout)
		if until != 0 && until < deadline.UnixNano() {
			deadline = time.Unix(0, until)
		}
		if err := c.Conn.SetWriteDeadline(deadline); err != nil || c.until.Load() == until {
			return err
		}
	}
}

// overdue reports whether the deadline that SetWriteDeadline has set has passed.
func (c *stallConn) overdue() bool {
	until := c.until.Load()
	return until != 0 && time.Now().UnixNano() >= until
}

// SetWriteDeadline implements net.Conn. It may be called during a Write.
func (c *stallConn) SetWriteDeadline(t time.Time) error {
	var until int64
	if !t.IsZero() {
		until = t.UnixNano()
	}
	if c.until.Swap(until) == until {
		return nil
	}
	return c.armWrite()
}

// SetDeadline implements net.Conn.
func (c *stallConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetWriteDeadline(t), c.Conn.SetReadDeadline(t))
}

// Close implements net.Conn. It may be called more than once.
func (c *stallConn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.stats.closed.Add(1)
		c.limit.remove(c)
	}
	c.leaveDrain()
	return c.Conn.Close()
}

// leaveDrain has the HTTP1Drain no longer count the connection: it speaks HTTP/2, or is closed.
func (c *stallConn) leaveDrain() {
	if c.left.CompareAndSwap(false, true) {
		c.drain.conns.Add(-1)
		c.headEnds()
	}
}

// CloseWrite closes the sending side alone. net/http calls it after a reply that refuses a request,
// so that the peer can read that reply before the connection is closed.
func (c *stallConn) CloseWrite() error { return closeWrite(c.Conn) }

// closeWrite calls conn.CloseWrite if there is one.
func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
