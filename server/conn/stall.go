package conn

import (
	"errors"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// BoundLeftovers limits what net/http does when an HTTP/1.1 handler has returned and left some of the
// body: it reads on, for ever if need be, to be able to use the connection again.
func BoundLeftovers(next http.Handler, timeout time.Duration) http.Handler {
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
	parting *Parting
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
	parting *Parting
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
