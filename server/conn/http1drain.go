package conn

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// An HTTP/2 server can announce that it closes a connection (GOAWAY). HTTP/1.1 can only announce it
// with a reply ("Connection: close"). If an idle connection is closed instead, a request may be on
// its way; that call fails, and clients do not repeat a POST (RFC 9112 §9.3.1). net/http also drops
// the requests that it reads after Shutdown was called, even the first one of a new connection. So
// a drain of HTTP/1.1 needs a phase before Shutdown in which connections are closed only with a
// reply.

const (
	// drainQuiet ends the phase when no connection has been closed for so long; drainLimit ends it in
	// any case.
	drainQuiet = time.Second
	drainLimit = 5 * time.Second
	// drainPoll is how often the number of connections is looked at.
	drainPoll = 5 * time.Millisecond
)

// HTTP1Drain counts the connections of a port that speak HTTP/1.1, or have not yet begun to speak
// HTTP/2, and closes them before a shutdown without losing a call. The zero value is ready.
type HTTP1Drain struct {
	conns   atomic.Int64
	closing atomic.Bool
}

// Handler returns a handler that calls next, and closes HTTP/1.1 connections with their next reply
// once Wait has been called. It also notes which of them are idle, for Config.MaxConnections.
func (d *HTTP1Drain) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			next.ServeHTTP(w, r)
			return
		}
		if d.closing.Load() {
			w.Header().Set("Connection", "close")
		}
		countRequest(next, w, r)
	})
}

// Open returns how many connections there are that do not speak HTTP/2.
func (d *HTTP1Drain) Open() int64 { return d.conns.Load() }

// Wait starts to close connections with their next reply. It returns when none is open, when none
// has been closed for a second, after five seconds, or when ctx is done.
func (d *HTTP1Drain) Wait(ctx context.Context) {
	d.closing.Store(true)
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	// The second starts anew with each connection that is closed: on a busy machine, some clients are
	// much later than others.
	before, lastClosed := d.conns.Load(), time.Now()
	for now := before; now > 0; now = d.conns.Load() {
		if now < before {
			lastClosed = time.Now()
		}
		if before = now; time.Since(lastClosed) >= drainQuiet {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(drainPoll):
		}
	}
}

type connKey struct{}

// Context is the [http.Server.ConnContext] of the port: it puts the connection into the context,
// for MarkHTTP2 and MarkHTTP2Requests.
func Context(ctx context.Context, conn net.Conn) context.Context {
	for {
		switch c := conn.(type) {
		case *stallConn:
			return context.WithValue(ctx, connKey{}, c)
		case *firstByteConn:
			conn = c.Conn
		case *replayedConn:
			conn = c.Conn
		case *tls.Conn:
			conn = c.NetConn()
		default:
			return ctx
		}
	}
}

// markHTTP2 records that the connection of ctx speaks HTTP/2, so that HTTP1Drain does not wait for
// it.
func markHTTP2(ctx context.Context) {
	if c, ok := ctx.Value(connKey{}).(*stallConn); ok {
		c.leaveDrain()
	}
}

// MarkHTTP2 wraps the hooks through which server passes connections to its HTTP/2 engine, so that
// HTTP1Drain does not count these connections.
func MarkHTTP2(server *http.Server) {
	for protocol, hook := range server.TLSNextProto {
		server.TLSNextProto[protocol] = func(s *http.Server, c *tls.Conn, h http.Handler) {
			if b, ok := h.(interface{ BaseContext() context.Context }); ok {
				markHTTP2(b.BaseContext())
			}
			hook(s, c, h)
		}
	}
}

// MarkHTTP2Requests does what MarkHTTP2 does for a server with net/http's own HTTP/2 engine, which
// has no hooks that could be wrapped: it marks the connection of each HTTP/2 request, and notes which
// of them are idle.
func MarkHTTP2Requests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			next.ServeHTTP(w, r)
			return
		}
		markHTTP2(r.Context())
		countRequest(next, w, r)
	})
}
