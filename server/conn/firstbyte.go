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

// A client may speak cleartext HTTP to a port with TLS, or TLS to one without. Its first byte tells.
// What crypto/tls does with the former, to hang up, leaves a gRPC client with "Socket closed"; so
// those connections go to a server of their own, which refuses every call in the protocol of its
// caller. It has no other handler than that, and the limits of the port.

// cleartextError is in the log for each of them.
const cleartextError = "the client speaks HTTP without TLS"

var (
	errCleartext = errors.New(cleartextError)
	errSpeakTLS  = errors.New("this port speaks TLS and was called without: use https://, or in gRPC a channel with TLS credentials")
)

// lingerTimeout and lingerBytes bound what is still read after a handshake that
// failed.
const (
	lingerTimeout = time.Second
	lingerBytes   = 64 << 10
)

// sortingListener looks at the first byte of each connection.
type sortingListener struct {
	net.Listener
	log *ErrorLog
	// cleartext gets the connections that come without TLS to a port with it; nil for a port without.
	cleartext *handedListener
}

// Accept implements net.Listener.
func (l sortingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &sortedConn{Conn: conn, listener: l}, nil
}

// A sortedConn is a connection of which the first byte has not come yet, and
// then one that is in the right place, or that has moved.
type sortedConn struct {
	net.Conn
	listener sortingListener
	begun    bool // its first byte has come; of the one who reads

	mu    sync.Mutex
	moved bool
	hello bool // TLS has begun, and its handshake is not known to have ended well
}

// Read implements net.Conn.
func (c *sortedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.begun || n == 0 {
		return n, err
	}
	c.begun = true
	const tlsHandshake = 0x16 // the type of a record (RFC 8446 §5.1)
	switch first := p[0]; {
	case c.listener.cleartext == nil:
		if first == tlsHandshake {
			c.listener.log.tlsOnCleartext(c.RemoteAddr().String())
		}
	case 'A' <= first && first <= 'Z': // a method, or HTTP/2's preface
		return 0, c.move(p[:n])
	default:
		c.mu.Lock()
		c.hello = true
		c.mu.Unlock()
	}
	return n, err
}

// move hands the connection over, with what was read of it.
func (c *sortedConn) move(read []byte) error {
	c.mu.Lock()
	c.moved = true
	c.mu.Unlock()
	// The deadline was that of the handshake.
	_ = c.Conn.SetDeadline(time.Time{})
	c.listener.cleartext.hand(&replayedConn{c.Conn, append([]byte(nil), read...)})
	return errCleartext
}

// Close implements net.Conn. A connection that has moved is not this one's to
// close, and one on which the handshake failed is left to the client for a
// while: in TLS 1.3 it has sent its first call by then, and with that unread
// the connection would be reset, and the alert that says why be lost.
func (c *sortedConn) Close() error {
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

// linger closes a connection once the client has closed it, or soon.
func linger(conn net.Conn) {
	defer conn.Close()
	if closeWrite(conn) == nil && conn.SetReadDeadline(time.Now().Add(lingerTimeout)) == nil {
		_, _ = io.CopyN(io.Discard, conn, lingerBytes)
	}
}

// SetDeadline implements net.Conn.
func (c *sortedConn) SetDeadline(t time.Time) error { return c.set(c.Conn.SetDeadline, t) }

// SetReadDeadline implements net.Conn.
func (c *sortedConn) SetReadDeadline(t time.Time) error { return c.set(c.Conn.SetReadDeadline, t) }

// SetWriteDeadline implements net.Conn.
func (c *sortedConn) SetWriteDeadline(t time.Time) error { return c.set(c.Conn.SetWriteDeadline, t) }

func (c *sortedConn) set(deadline func(time.Time) error, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.moved {
		return net.ErrClosed
	}
	if t.IsZero() {
		// net/http lifts the deadline of the handshake when it has ended well.
		c.hello = false
	}
	return deadline(t)
}

// CloseWrite is as stallConn's.
func (c *sortedConn) CloseWrite() error { return closeWrite(c.Conn) }

// A replayedConn has bytes that were read of it before.
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

// CloseWrite is as stallConn's.
func (c *replayedConn) CloseWrite() error { return closeWrite(c.Conn) }

// handedListener accepts what it is handed.
type handedListener struct {
	address net.Addr
	handed  chan net.Conn
	closed  chan struct{}
	close   func()
}

func newHandedListener(address net.Addr) *handedListener {
	l := &handedListener{address: address, handed: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

func (l *handedListener) hand(conn net.Conn) {
	select {
	case l.handed <- conn:
	case <-l.closed:
		conn.Close()
	}
}

// Accept implements net.Listener.
func (l *handedListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.handed:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *handedListener) Close() error {
	l.close()
	return nil
}

// Addr implements net.Listener.
func (l *handedListener) Addr() net.Addr { return l.address }

// RefuseCleartext is the handler of Config.Cleartext: it tells every caller to use TLS.
func RefuseCleartext() http.Handler {
	why := connect.NewError(connect.CodeFailedPrecondition, errSpeakTLS)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close")
		}
		rpc.Answer(w, r, why)
	})
}
