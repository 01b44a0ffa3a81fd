package conn

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// An HTTP/2 server can tell its clients that it is about to go. HTTP/1.1 can
// only say with a reply that there will be no other on the connection; one that
// is closed while it is idle may just then have got a request, which fails, and
// which clients do not repeat if it was a POST (RFC 9112 §9.3.1). And net/http
// drops the requests that it reads once Shutdown was called, the first of a new
// connection among them. So before Shutdown there is a time in which
// connections are only closed with a reply.

const (
	// partingTimeout is how long connections without requests get for that, from
	// when the last one left; partingLimit is how long all of it may take.
	partingTimeout = time.Second
	partingLimit   = 5 * time.Second
	// partingPoll is how often is looked whether any is left.
	partingPoll = 5 * time.Millisecond
)

// Parting counts the connections of a port that are not, or not yet, HTTP/2.
type Parting struct {
	conns   atomic.Int64
	closing atomic.Bool
}

// Handler closes HTTP/1.1 connections with their next reply, once it is time. It also notes which of
// them are idle, for Config.MaxConnections.
func (p *Parting) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			next.ServeHTTP(w, r)
			return
		}
		if p.closing.Load() {
			w.Header().Set("Connection", "close")
		}
		noteIdle(next, w, r)
	})
}

// Left is how many connections are not, or not yet, HTTP/2.
func (p *Parting) Left() int64 { return p.conns.Load() }

// Wait starts that time, and returns at its end or when no connection is left.
func (p *Parting) Wait(ctx context.Context) {
	p.closing.Store(true)
	ctx, cancel := context.WithTimeout(ctx, partingLimit)
	defer cancel()
	// Where clients are slow, since the machine is busy, some still leave after
	// others have been quiet for long.
	before, left := p.conns.Load(), time.Now()
	for now := before; now > 0; now = p.conns.Load() {
		if now < before {
			left = time.Now()
		}
		if before = now; time.Since(left) >= partingTimeout {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(partingPoll):
		}
	}
}

type connKey struct{}

// Context is for an http.Server's ConnContext: it keeps the connection at hand.
func Context(ctx context.Context, conn net.Conn) context.Context {
	for {
		switch c := conn.(type) {
		case *stallConn:
			return context.WithValue(ctx, connKey{}, c)
		case *sortedConn:
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

// markHTTP2 notes that the connection of ctx needs no such time.
func markHTTP2(ctx context.Context) {
	if c, ok := ctx.Value(connKey{}).(*stallConn); ok {
		c.partedWith()
		c.setIdle(false)
	}
}

// MarkHTTP2 wraps the hooks by which server hands connections to its HTTP/2
// engine.
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

// MarkHTTP2Requests does the same with net/http's own engine, whose hooks are its own.
func MarkHTTP2Requests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			markHTTP2(r.Context())
		}
		next.ServeHTTP(w, r)
	})
}
