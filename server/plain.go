package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
)

// A client may speak plain HTTP to a port with TLS, or TLS to one without. Its
// first byte tells. What crypto/tls does with the former, to hang up, leaves a
// gRPC client with "Socket closed"; so those connections go to a server of
// their own, which refuses every call in the caller's own protocol. It has no
// other handler than that, and the limits of the port.

// plainClientText is in the log for each of them.
const plainClientText = "the client speaks HTTP without TLS"

var (
	errPlainClient = errors.New(plainClientText)
	errSpeakTLS    = errors.New("this port speaks TLS and was called without: use https://, or in gRPC a channel with TLS credentials")
)

// plainIdleTimeout closes a plain connection to a port with TLS; nobody has
// more to ask there.
const plainIdleTimeout = 10 * time.Second

// lingerTimeout and lingerBytes bound what is still read after a handshake that
// failed.
const (
	lingerTimeout = time.Second
	lingerBytes   = 64 << 10
)

// sortingListener looks at the first byte of each connection.
type sortingListener struct {
	net.Listener
	log *errorLog
	// plain gets the connections of a port with TLS that come without; nil for
	// a port without TLS.
	plain *plainListener
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
	case c.listener.plain == nil:
		if first == tlsHandshake {
			c.listener.log.tlsOnPlain(c.RemoteAddr().String())
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
	c.listener.plain.hand(&replayedConn{c.Conn, append([]byte(nil), read...)})
	return errPlainClient
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

// plainListener accepts what it is handed.
type plainListener struct {
	address net.Addr
	handed  chan net.Conn
	closed  chan struct{}
	close   func()
}

func newPlainListener(address net.Addr) *plainListener {
	l := &plainListener{address: address, handed: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

func (l *plainListener) hand(conn net.Conn) {
	select {
	case l.handed <- conn:
	case <-l.closed:
		conn.Close()
	}
}

// Accept implements net.Listener.
func (l *plainListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.handed:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *plainListener) Close() error {
	l.close()
	return nil
}

// Addr implements net.Listener.
func (l *plainListener) Addr() net.Addr { return l.address }

// refusePlain tells every caller to use TLS.
func refusePlain(config Config) http.Handler {
	refuser := newRefuser()
	refuse := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close")
		}
		refuser.refuse(w, r, connect.NewError(connect.CodeFailedPrecondition, errSpeakTLS))
	})
	return drainInTime(refuse, config.stall)
}

// sorted is listener with the first byte of each connection looked at, and
// what is to be closed once the port is.
func sorted(config Config, listener net.Listener, log *errorLog) (net.Listener, func(), error) {
	if config.TLS == nil {
		return sortingListener{Listener: listener, log: log}, func() {}, nil
	}
	withoutTLS := config
	withoutTLS.TLS = nil
	refusing, err := newHTTPServer(withoutTLS, refusePlain(config), log)
	if err != nil {
		return nil, nil, err
	}
	refusing.IdleTimeout = plainIdleTimeout
	plain := newPlainListener(listener.Addr())
	go func() { _ = refusing.Serve(plain) }() // until it is closed
	return sortingListener{listener, log, plain}, func() { refusing.Close() }, nil
}
