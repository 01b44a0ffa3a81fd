package conn

import (
	"bufio"
	"container/list"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
)

// A balancer that passes on TCP connections says in the first bytes of each whose connection it is: the
// PROXY protocol, version 1 (a line of text) or 2 (binary). These bytes come before those of TLS and
// HTTP, so a proxyListener reads them before any other part of the port sees the connection, which then
// has the address of the client everywhere: in limits, in logs and in requests.

const (
	// proxyHeaderTimeout is how long the header may take. A balancer sends it at once.
	proxyHeaderTimeout = 5 * time.Second
	// proxyHeaders is how many connections may owe their header at a time; the oldest of them makes room
	// for one more.
	proxyHeaders = 1024
	// proxyHeaderBuffer bounds what is buffered of a connection with its header.
	proxyHeaderBuffer = 4096
	// proxyClosing is how long a header may still take once the listener has been closed.
	proxyClosing = time.Second
)

// proxyListener reads the header of each connection, and accepts those that have one. Connections are
// read at the same time, so that one that sends nothing does not delay others.
type proxyListener struct {
	net.Listener
	trusted  []netip.Prefix
	log      *ErrorLog
	accepted chan acceptance
	closed   chan struct{} // closed by Close
	close    func() error

	mu     sync.Mutex
	owing  list.List // of net.Conn: those without their header, the oldest first
	ending sync.WaitGroup
}

type acceptance struct {
	conn net.Conn
	err  error
}

func newProxyListener(inner net.Listener, trusted []netip.Prefix, log *ErrorLog) *proxyListener {
	l := &proxyListener{Listener: inner, trusted: trusted, log: log, accepted: make(chan acceptance), closed: make(chan struct{})}
	l.close = sync.OnceValue(func() error {
		close(l.closed)
		return inner.Close()
	})
	go l.run()
	return l
}

// Accept implements net.Listener. After the listener was closed it still returns the connections that
// it had accepted before.
func (l *proxyListener) Accept() (net.Conn, error) {
	a, ok := <-l.accepted
	if !ok {
		return nil, net.ErrClosed
	}
	return a.conn, a.err
}

// Close implements net.Listener.
func (l *proxyListener) Close() error { return l.close() }

// run accepts connections until the listener is closed.
func (l *proxyListener) run() {
	defer close(l.accepted)
	for {
		conn, err := l.Listener.Accept()
		if err == nil {
			l.begin(conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			break
		}
		// Such as too many open files, after which net/http waits before it accepts again.
		select {
		case l.accepted <- acceptance{err: err}:
		case <-l.closed:
		}
	}
	l.mu.Lock()
	for e := l.owing.Front(); e != nil; e = e.Next() {
		_ = e.Value.(net.Conn).SetReadDeadline(time.Now().Add(proxyClosing))
	}
	l.mu.Unlock()
	l.ending.Wait()
}

// begin reads the header of a connection in the background.
func (l *proxyListener) begin(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owing.Len() >= proxyHeaders {
		oldest := l.owing.Remove(l.owing.Front()).(net.Conn)
		oldest.Close()
	}
	_ = conn.SetReadDeadline(time.Now().Add(proxyHeaderTimeout))
	owes := l.owing.PushBack(conn)
	l.ending.Go(func() {
		proxied, err := l.read(conn)
		l.mu.Lock()
		l.owing.Remove(owes) // nothing, if it has made room for another one
		l.mu.Unlock()
		if err != nil {
			conn.Close()
			return
		}
		l.accepted <- acceptance{conn: proxied}
	})
}

var errNotTrusted = errors.New("it does not come from one of --trusted-proxies")

// read reads the header of a connection. It logs why it refuses the connection.
func (l *proxyListener) read(conn net.Conn) (*proxiedConn, error) {
	err := errNotTrusted
	if l.trusts(conn.RemoteAddr()) {
		var proxied *proxiedConn
		if proxied, err = readHeader(conn); err == nil {
			return proxied, nil
		}
	}
	hint := "have the balancer send the PROXY protocol to this port (send-proxy, send-proxy-v2), and have everybody else call the balancer"
	switch {
	case errors.Is(err, net.ErrClosed), errors.Is(err, io.EOF):
		return nil, err // it has left, as checks of balancers do, or has made room for another one
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = errors.New("it sent none in time")
	case errors.Is(err, errNotTrusted):
		hint = "only the addresses of --trusted-proxies may connect to this port: add it if it is a proxy's"
	}
	l.log.notProxied(conn.RemoteAddr().String(), err.Error(), hint)
	return nil, err
}

func (l *proxyListener) trusts(address net.Addr) bool {
	if len(l.trusted) == 0 {
		return true
	}
	peer, err := netip.ParseAddrPort(address.String())
	if err != nil {
		return false
	}
	for _, prefix := range l.trusted {
		if prefix.Contains(peer.Addr().Unmap().WithZone("")) {
			return true
		}
	}
	return false
}

// readHeader reads the header of the PROXY protocol and returns the connection behind it.
func readHeader(conn net.Conn) (*proxiedConn, error) {
	reader := bufio.NewReaderSize(conn, proxyHeaderBuffer)
	if _, err := reader.Peek(1); err != nil {
		return nil, err // the library takes an end for a connection without a header
	}
	header, err := proxyproto.Read(reader)
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	rest, _ := reader.Peek(reader.Buffered())
	proxied := &proxiedConn{replayedConn{conn, append([]byte(nil), rest...)}, conn.RemoteAddr()}
	// The balancer's own connections (LOCAL) and those without an address of IP keep its address.
	if client, ok := header.SourceAddr.(*net.TCPAddr); ok && header.Command.IsProxy() {
		proxied.remote = client
	}
	return proxied, nil
}

// A proxiedConn is a connection with the address that its header has.
type proxiedConn struct {
	replayedConn
	remote net.Addr
}

// RemoteAddr implements net.Conn.
func (c *proxiedConn) RemoteAddr() net.Addr { return c.remote }
