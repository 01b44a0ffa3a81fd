package conn

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"example.com/roster/server/rpc"
)

const (
	// minIdle is how long a connection must have been idle before it is closed in favour of a new one.
	// The end of the last reply may still be in a buffer before that. It does not apply to a connection
	// that an HTTP/2 engine shuts down, which sends that first.
	minIdle = 100 * time.Millisecond
	// minFresh is how long a connection may take to its first request before it counts as idle.
	minFresh = time.Second
)

// limit bounds the number of open connections of a port. Once it is reached, a new connection takes the
// place of another one:
//
//   - of one that is idle, from the address that has the most connections. An address that has no more
//     of them than that of the new connection keeps them;
//   - else of the oldest connection of the address that has the most, if that is at least two more than
//     the address of the new one has, so that no address keeps all of them.
//
// If there is no such connection, the new one is refused.
//
// An idle connection of HTTP/2 is shut down (GOAWAY), which takes as long as its client needs to answer.
// Such a connection is counted in leaving and no longer in open. A call that its client had begun by
// then is answered. If too many are leaving, one of them is closed at once.
type limit struct {
	max        int // 0 is no limit
	maxLeaving int
	began      time.Time // the origin of all times

	mu        sync.Mutex
	open      int
	addresses map[netip.Addr]map[*stallConn]struct{}
	leaving   map[*stallConn]struct{}
}

func newLimit(max int) *limit {
	return &limit{
		max: max, maxLeaving: max/16 + 32, began: time.Now(),
		addresses: make(map[netip.Addr]map[*stallConn]struct{}),
		leaving:   make(map[*stallConn]struct{}),
	}
}

// now returns the time in nanoseconds, from 1. It reads only the monotonic clock, which takes half the
// time of Now.
func (l *limit) now() int64 { return int64(time.Since(l.began)) + 1 }

// admit reports whether a new connection may stay, and closes the one whose place it takes, if any.
func (l *limit) admit(c *stallConn) bool {
	if l.max <= 0 {
		return true
	}
	l.mu.Lock()
	var closed *stallConn
	var shutdown func()
	if l.open >= l.max {
		instead, idle := l.victim(len(l.addresses[c.address]), c.address)
		if instead == nil {
			l.mu.Unlock()
			return false
		}
		l.removeLocked(instead)
		if idle && instead.shutdown != nil {
			shutdown = instead.shutdown
			closed = l.leaves(instead)
		} else {
			closed = instead
		}
	}
	if l.addresses[c.address] == nil {
		l.addresses[c.address] = make(map[*stallConn]struct{})
	}
	l.addresses[c.address][c] = struct{}{}
	l.open++
	l.mu.Unlock()
	if shutdown != nil {
		shutdown()
	}
	if closed != nil {
		closed.Close()
	}
	return true
}

// leaves records that a connection is shut down. It returns the one that is to be closed at once, if too
// many are leaving: the one that began to be idle first, or else the oldest. l.mu is held.
func (l *limit) leaves(c *stallConn) (tooMany *stallConn) {
	if len(l.leaving) >= l.maxLeaving {
		if tooMany = first(l.leaving, func(c *stallConn) int64 { return c.idleSince.Load() }); tooMany == nil {
			tooMany = first(l.leaving, func(c *stallConn) int64 { return c.accepted })
		}
		delete(l.leaving, tooMany)
	}
	l.leaving[c] = struct{}{}
	return tooMany
}

// victim returns the connection that gives way to one of an address that has own connections, and
// whether it is idle. l.mu is held.
func (l *limit) victim(own int, address netip.Addr) (c *stallConn, isIdle bool) {
	var idle, oldest *stallConn
	idleMost, most := 0, own+1
	now := l.now()
	for from, conns := range l.addresses {
		n := len(conns)
		if n > idleMost && (n > own || from == address) {
			if c := first(conns, func(c *stallConn) int64 { return c.idleFrom(now) }); c != nil {
				idle, idleMost = c, n
			}
		}
		if n > most {
			oldest, most = first(conns, func(c *stallConn) int64 { return c.accepted }), n
		}
	}
	if idle != nil {
		return idle, true
	}
	return oldest, false
}

// idleFrom returns since when the connection has been idle, or 0 if it is not, or not long enough to be
// closed. limit.mu is held.
func (c *stallConn) idleFrom(now int64) int64 {
	since := c.idleSince.Load()
	switch idle := time.Duration(now - since); {
	case since == c.accepted && idle < minFresh:
		return 0
	case since != c.accepted && idle < minIdle && c.shutdown == nil:
		return 0
	}
	return since
}

// first returns the connection with the earliest time, of those that have one.
func first(conns map[*stallConn]struct{}, at func(*stallConn) int64) (earliest *stallConn) {
	var when int64
	for c := range conns {
		if t := at(c); t != 0 && (earliest == nil || t < when) {
			earliest, when = c, t
		}
	}
	return earliest
}

// remove forgets a connection that has been closed.
func (l *limit) remove(c *stallConn) {
	if l.max <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(c)
	delete(l.leaving, c)
}

func (l *limit) removeLocked(c *stallConn) {
	conns := l.addresses[c.address]
	if _, ok := conns[c]; !ok {
		return // another connection has taken its place
	}
	delete(conns, c)
	if l.open--; len(conns) == 0 {
		delete(l.addresses, c.address)
	}
}

// addressOf is the address that a connection is attributed to.
func addressOf(c net.Conn) netip.Addr {
	remote, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return rpc.Network(remote.Addr())
}

// Idle is the h2.Config.Idle of the port: it has the connection of ctx give way to new ones, once the
// port has its maximum, while it has no stream. shutdown closes it without losing a call.
func Idle(ctx context.Context, shutdown func()) (set func(idle bool)) {
	c, ok := ctx.Value(connKey{}).(*stallConn)
	if !ok || c.limit.max <= 0 {
		return nil
	}
	c.limit.mu.Lock()
	c.shutdown = shutdown
	c.limit.mu.Unlock()
	return c.setIdle
}

func (c *stallConn) setIdle(idle bool) {
	if idle {
		c.headEnds()
		c.idleSince.Store(c.limit.now())
	} else {
		c.idleSince.Store(0)
	}
}

// A request has begun or ended on the connection. An engine that has no hook like h2.Config.Idle serves
// several at a time.
func (c *stallConn) request(change int) {
	c.counting.Lock()
	defer c.counting.Unlock()
	c.requests += change
	c.setIdle(c.requests == 0)
}

// countRequest notes while a connection has requests.
func countRequest(next http.Handler, w http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*stallConn); ok {
		c.request(1)
		defer c.request(-1)
	}
	next.ServeHTTP(w, r)
}
