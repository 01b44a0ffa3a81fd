package conn

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/server/rpc"
)

// A client may speak cleartext HTTP to a TLS port, or TLS to a cleartext port; the first byte of
// the connection shows which. To cleartext HTTP crypto/tls replies by hanging up, which a gRPC
// client reports as "Socket closed". So a TLS port passes such connections to a second HTTP server,
// whose only handler is [RefuseCleartext]: it refuses every call in the protocol of its caller.

// cleartextError is the reason in the log line for such a connection.
const cleartextError = "the client speaks HTTP without TLS"

var (
	errCleartext = errors.New(cleartextError)
	errSpeakTLS  = errors.New("this port speaks TLS and was called without: use https://, or in gRPC a channel with TLS credentials")
)

// lingerTimeout and lingerBytes bound how long, and how much, is still read after a failed
// handshake.
const (
	lingerTimeout = time.Second
	lingerBytes   = 64 << 10
)

// firstByteListener wraps each accepted connection in a firstByteConn.
type firstByteListener struct {
	net.Listener
	log *ErrorLog
	// cleartext gets the connections of clients that speak cleartext HTTP to a TLS port. It is nil if
	// the port itself is cleartext.
	cleartext *queueListener
}

// Accept implements net.Listener.
func (l firstByteListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &firstByteConn{Conn: conn, listener: l}, nil
}

// A firstByteConn looks at the first byte that it reads. If the connection belongs to the other
// server, it moves there: from then on the firstByteConn fails, and leaves the connection alone.
type firstByteConn struct {
	net.Conn
	listener firstByteListener
	begun    bool // the first byte has been read; used by Read alone

	mu    sync.Mutex
	moved bool
	hello bool // a TLS handshake has begun, and has not succeeded yet
}

// Read implements net.Conn.
func (c *firstByteConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.begun || n == 0 {
		return n, err
	}
	c.begun = true
	const tlsHandshake = 0x16 // content type of the first TLS record (RFC 8446 §5.1)
	switch first := p[0]; {
	case c.listener.cleartext == nil:
		if first == tlsHandshake {
			c.listener.log.tlsOnCleartext(c.RemoteAddr().String())
		}
	case 'A' <= first && first <= 'Z': // an HTTP method, or the preface of HTTP/2
		return 0, c.move(p[:n])
	default:
		c.mu.Lock()
		c.hello = true
		c.mu.Unlock()
	}
	return n, err
}

// move passes the connection, with what was read of it, to the server for cleartext.
func (c *firstByteConn) move(read []byte) error {
	c.mu.Lock()
	c.moved = true
	c.mu.Unlock()
	// The deadline that is set is the one for the TLS handshake.
	_ = c.Conn.SetDeadline(time.Time{})
	c.listener.cleartext.add(&replayedConn{c.Conn, append([]byte(nil), read...)})
	return errCleartext
}

// Close implements net.Conn. It does nothing if the connection has moved. After a failed handshake
// the connection stays open for a moment, so that the client can read the TLS alert that says why:
// in TLS 1.3 the client has sent its first call by then, and closing a socket with unread data
// resets the connection, which loses the alert.
func (c *firstByteConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.moved:
		return nil
	case c.hello:
		c.hello = false
		go linger(c.Conn)
		return nil
	}
	return c.Conn.Close()
}

// linger closes a connection when the client has closed its side, or when lingerTimeout has passed.
func linger(conn net.Conn) {
	defer conn.Close()
	if closeWrite(conn) == nil && conn.SetReadDeadline(time.Now().Add(lingerTimeout)) == nil {
		_, _ = io.CopyN(io.Discard, conn, lingerBytes)
	}
}

// SetDeadline implements net.Conn.
func (c *firstByteConn) SetDeadline(t time.Time) error { return c.set(c.Conn.SetDeadline, t) }

// SetReadDeadline implements net.Conn.
func (c *firstByteConn) SetReadDeadline(t time.Time) error { return c.set(c.Conn.SetReadDeadline, t) }

// SetWriteDeadline implements net.Conn.
func (c *firstByteConn) SetWriteDeadline(t time.Time) error { return c.set(c.Conn.SetWriteDeadline, t) }

func (c *firstByteConn) set(deadline func(time.Time) error, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.moved {
		return net.ErrClosed
	}
	if t.IsZero() {
		// net/http removes the deadline when the handshake has succeeded.
		c.hello = false
	}
	return deadline(t)
}

// CloseWrite has the purpose of stallConn.CloseWrite.
func (c *firstByteConn) CloseWrite() error { return closeWrite(c.Conn) }

// A replayedConn is a connection of which some bytes were read before; Read returns them first.
type replayedConn struct {
	net.Conn
	read []byte
}

// Read implements net.Conn.
func (c *replayedConn) Read(p []byte) (int, error) {
	if len(c.read) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.read)
	c.read = c.read[n:]
	return n, nil
}

// CloseWrite has the purpose of stallConn.CloseWrite.
func (c *replayedConn) CloseWrite() error { return closeWrite(c.Conn) }

// A queueListener is a net.Listener whose connections are passed to add.
type queueListener struct {
	address net.Addr
	queue   chan net.Conn
	closed  chan struct{}
	close   func()
}

func newQueueListener(address net.Addr) *queueListener {
	l := &queueListener{address: address, queue: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

// add passes conn to the next Accept. It closes conn if the listener is closed.
func (l *queueListener) add(conn net.Conn) {
	select {
	case l.queue <- conn:
	case <-l.closed:
		conn.Close()
	}
}

// Accept implements net.Listener.
func (l *queueListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.queue:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *queueListener) Close() error {
	l.close()
	return nil
}

// Addr implements net.Listener.
func (l *queueListener) Addr() net.Addr { return l.address }

// RefuseCleartext returns the handler for [Config.Cleartext]: it tells every caller to use TLS.
func RefuseCleartext() http.Handler {
	why := connect.NewError(connect.CodeFailedPrecondition, errSpeakTLS)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close")
		}
		rpc.Answer(w, r, why)
	})
}
