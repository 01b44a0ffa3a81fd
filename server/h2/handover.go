package h2

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"runtime"
)

// NewListener returns a listener that makes cleartext HTTP/2 connections cheaper: when a server
// that [Configure] was called on serves it, an idle connection takes about half the memory. It
// makes no difference to connections of HTTP/1.1 and of TLS, and to a server without Configure. It
// must be the outermost wrapper of l. Beneath a TLS listener or another wrapper, or if ConnContext
// or ConnState of the server are set after Configure, it has no effect.
//
// A connection that a handler of HTTP/1.1 hijacks has a type of this package. Its method NetConn()
// net.Conn returns the one that l accepted, such as a *net.TCPConn.
//
// It works as follows. net/http keeps two buffers and a goroutine with a deep stack for as long as
// the function in TLSNextProto runs. So that function hands the connection over to a goroutine of
// the engine and returns; net/http then reuses its buffers and calls Close, which the connection
// ignores. Shutdown and Close of the server must still cover such connections. Therefore one call
// of that function per server, that of the anchor, returns only when all connections that were
// handed over have ended. net/http then has one active connection for as long as there are any, and
// if it closes that one earlier, http.Server.Close was called.
func NewListener(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nc, err
	}
	if _, ok := nc.(interface{ ConnectionState() tls.ConnectionState }); ok {
		return nc, nil // net/http looks for this method, or for *tls.Conn
	}
	if tcp, ok := nc.(*net.TCPConn); ok {
		return &tcpConn{tcp, loan{nc: nc}}, nil
	}
	return &cleartextConn{nc, loan{nc: nc}}, nil
}

// cleartextConn is a connection that net/http holds until the engine takes it over. It is also what
// Hijack returns for a request of HTTP/1.1; NetConn then returns the listener's own connection.
type cleartextConn struct {
	net.Conn
	loan
}

// Close implements net.Conn.
func (c *cleartextConn) Close() error { return c.loan.end() }

// CloseWrite lets net/http end its side of the connection first, so that the client can still read
// a reply.
func (c *cleartextConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// NetConn returns the connection that the listener accepted, as [tls.Conn.NetConn] does.
func (c *cleartextConn) NetConn() net.Conn { return c.Conn }

// tcpConn is a cleartextConn with all methods of *net.TCPConn. net/http sends files over HTTP/1.1
// with ReadFrom.
type tcpConn struct {
	*net.TCPConn
	loan
}

// Close implements net.Conn.
func (c *tcpConn) Close() error { return c.loan.end() }

// NetConn returns the connection that the listener accepted, as [tls.Conn.NetConn] does.
func (c *tcpConn) NetConn() net.Conn { return c.TCPConn }

// loan is what the engine knows about a connection of a NewListener, which net/http holds at first.
type loan struct {
	nc      net.Conn        // the connection itself
	srv     *server         // the engine of the http.Server that accepted it, if it has one
	ctx     context.Context // what ConnContext returned
	watched bool            // the hook ConnState that wrapHooks made has seen it
	handed  bool            // the engine serves it now, so net/http must not close it; guarded by srv.mu
}

func (l *loan) asLoan() *loan { return l }

// loanOf returns the loan of a connection of a NewListener, or nil for other connections.
func loanOf(nc net.Conn) *loan {
	if b, ok := nc.(interface{ asLoan() *loan }); ok {
		return b.asLoan()
	}
	return nil
}

// end implements Close as net/http calls it.
func (l *loan) end() error {
	if l.srv != nil && l.srv.keepsOpen(l) {
		return nil
	}
	return l.nc.Close()
}

// handovers describes the connections of a server that were handed over by net/http. It is guarded
// by server.mu.
type handovers struct {
	n        int           // how many are open
	anchor   *loan         // the one that net/http still regards as active; nil if n is 0
	released chan struct{} // closed when n is 0, which lets the anchor's function return
	closed   bool          // http.Server.Close was called
}

// wrapHooks wraps the hooks ConnContext and ConnState of the http.Server. The first gives the
// engine the connection's context; the one that net/http derives from it ends too early, when the
// function in TLSNextProto returns. The second suppresses net/http's report of StateClosed at the
// hand-over.
func (s *server) wrapHooks() {
	if hook := s.http.ConnContext; hook != nil {
		s.http.ConnContext = func(ctx context.Context, nc net.Conn) context.Context {
			l := loanOf(nc)
			if l == nil {
				return hook(ctx, nc)
			}
			l.srv, l.ctx = s, hook(ctx, l.nc)
			return l.ctx
		}
	} else {
		s.http.ConnContext = func(ctx context.Context, nc net.Conn) context.Context {
			if l := loanOf(nc); l != nil {
				l.srv, l.ctx = s, ctx
			}
			return ctx
		}
	}
	if hook := s.http.ConnState; hook != nil {
		s.http.ConnState = func(nc net.Conn, state http.ConnState) {
			if l := loanOf(nc); l != nil {
				if state == http.StateClosed && l.handed {
					return // reportClosed does it when the connection ends
				}
				if state == http.StateNew {
					l.watched = true
				}
				nc = l.nc
			}
			hook(nc, state)
		}
	}
}

// canTakeOver reports whether the connection comes from a NewListener and both hooks have seen it.
func (s *server) canTakeOver(l *loan) bool {
	return l != nil && l.srv == s && (s.http.ConnState == nil || l.watched)
}

// takeOver serves a connection on a goroutine of its own. It returns at once, unless the connection
// becomes the anchor.
func (s *server) takeOver(l *loan, h http.Handler) {
	ctx := context.WithValue(l.ctx, http.LocalAddrContextKey, l.nc.LocalAddr())
	c := s.newConn(l.nc, h, ctx)
	c.handed = true
	c.open()
	s.mu.Lock()
	if s.handovers.closed {
		s.mu.Unlock()
		c.teardown()
		return
	}
	s.stats.connections.Add(1)
	l.handed = true
	s.handovers.n++
	var released chan struct{}
	if s.handovers.anchor == nil {
		released = make(chan struct{})
		s.handovers.anchor, s.handovers.released = l, released
	}
	s.conns[c] = struct{}{}
	shutting := s.shutting
	s.mu.Unlock()
	if shutting {
		c.startShutdown()
	}
	go c.serveHanded()
	if released != nil {
		<-released
	}
}

// serveHanded runs on the goroutine of a connection that was handed over. As net/http's would, it
// logs a panic.
func (c *conn) serveHanded() {
	defer func() {
		if v := recover(); v != nil {
			stack := make([]byte, 64<<10)
			stack = stack[:runtime.Stack(stack, false)]
			c.srv.logf("http: panic serving %v: %v\n%s", c.remoteAddr, v, stack)
		}
		c.reportClosed()
		c.srv.remove(c)
	}()
	c.run(true)
}

// keepsOpen reports whether a Close by net/http must leave the connection open, because it was
// handed over. If the connection is the anchor, http.Server.Close was called, and keepsOpen closes
// all connections.
func (s *server) keepsOpen(l *loan) bool {
	s.mu.Lock()
	if !l.handed || s.handovers.anchor != l {
		defer s.mu.Unlock()
		return l.handed
	}
	s.handovers.closed = true
	var all []*conn
	for c := range s.conns {
		if c.handed {
			all = append(all, c)
		}
	}
	s.mu.Unlock()
	for _, c := range all {
		c.nc.Close()
	}
	return true
}

// ended records that a connection that was handed over has ended. server.mu is held.
func (h *handovers) ended() {
	if h.n--; h.n == 0 {
		close(h.released)
		h.anchor, h.released = nil, nil
	}
}
