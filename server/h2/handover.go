package h2

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"runtime"
)

// NewListener makes plain HTTP/2 connections that l accepts cheaper: a server that [Configure] was called on, and that
// serves the returned listener, spends about half the memory on an idle one. Connections of HTTP/1.1 and of TLS stay
// as they are, and so does a server without Configure. The listener must be the outermost one that wraps plain
// connections; beneath a TLS listener, or with ConnContext or ConnState set after Configure, it does nothing.
//
// net/http holds two buffers and the deep stack of a goroutine for as long as its hook runs. So the hook starts a
// goroutine of the engine's own and returns; net/http takes the connection for finished, reuses the buffers and calls
// Close, which the listener's connection knows to be the hand-over. For Shutdown to wait and for Close to work, one
// hook per server, the anchor's, returns only when all the connections handed over have ended: net/http then tracks one
// active connection for just as long as there are any, and its Close during that time is that of the server.
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

// cleartextConn is a connection on loan to net/http.
type cleartextConn struct {
	net.Conn
	loan
}

// Close implements net.Conn.
func (c *cleartextConn) Close() error { return c.loan.end() }

// CloseWrite lets net/http end a reply before the connection is reset.
func (c *cleartextConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// tcpConn is a cleartextConn with all methods of a *net.TCPConn. HTTP/1.1 sends files by ReadFrom.
type tcpConn struct {
	*net.TCPConn
	loan
}

// Close implements net.Conn.
func (c *tcpConn) Close() error { return c.loan.end() }

// loan is what is known of a connection that net/http holds.
type loan struct {
	nc      net.Conn        // the connection itself
	srv     *server         // whose server accepted it, if any
	ctx     context.Context // what ConnContext returned
	watched bool            // its states go through the hook of wrapHooks
	handed  bool            // net/http has nothing to close any more; guarded by srv.mu
}

func (l *loan) asLoan() *loan { return l }

// loanOf returns the loan of a connection of ours, or nil.
func loanOf(nc net.Conn) *loan {
	if b, ok := nc.(interface{ asLoan() *loan }); ok {
		return b.asLoan()
	}
	return nil
}

// end is net/http's Close.
func (l *loan) end() error {
	if l.srv != nil && l.srv.keepsOpen(l) {
		return nil
	}
	return l.nc.Close()
}

// handovers is what a server knows of the connections that it serves behind net/http's back. It is guarded by
// server.mu.
type handovers struct {
	n        int           // of them are served
	anchor   *loan         // the one whose hook has not returned, while there are any
	released chan struct{} // closed when it may
	closed   bool          // http.Server.Close was called
}

// wrapHooks wraps the hooks of srv through which we learn what net/http does not tell: the connection's context before
// net/http makes its own of it, which ends with the hook, and the moment when net/http reports the end.
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
					return // not yet: see reportClosed
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

// canTakeOver reports whether the connection came by a listener of ours and both hooks have seen it.
func (s *server) canTakeOver(l *loan) bool {
	return l != nil && l.srv == s && (s.http.ConnState == nil || l.watched)
}

// takeOver serves a connection on a goroutine of its own. It returns at once, unless this becomes the anchor.
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

// serveHanded is a connection's goroutine. It does what net/http's would.
func (c *conn) serveHanded() {
	defer func() {
		if v := recover(); v != nil {
			stack := make([]byte, 64<<10)
			stack = stack[:runtime.Stack(stack, false)]
			c.srv.logf("h2: panic serving %v: %v\n%s", c.remoteAddr, v, stack)
		}
		c.reportClosed()
		c.srv.remove(c)
	}()
	c.run(true)
}

// keepsOpen reports whether net/http's Close of a connection is not to close it. That of the anchor, before its hook
// has returned, is http.Server.Close, which closes them all.
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

// ended notes that a connection handed over has ended. s.mu is held.
func (h *handovers) ended() {
	if h.n--; h.n == 0 {
		close(h.released)
		h.anchor, h.released = nil, nil
	}
}
