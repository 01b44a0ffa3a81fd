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

// minIdle is how long a connection must have been idle before it is closed in favour of a new one. The
// end of the last reply may still be in a buffer before that.
const minIdle = 100 * time.Millisecond

// limit bounds the number of open connections of a port. Once it is reached, a new connection takes the
// place of another one:
//
//   - of one that is idle, from the address that has the most connections. An address that has no more
//     of them than that of the new connection keeps them;
//   - else of the oldest connection of the address that has the most, if that is at least two more than
//     the address of the new one has, so that no address keeps all of them.
//
// If there is no such connection, the new one is refused.
type limit struct {
	max int // 0 is no limit

	mu        sync.Mutex
	open      int
	addresses map[netip.Addr]map[*stallConn]struct{}
}

func newLimit(max int) *limit {
	return &limit{max: max, addresses: make(map[netip.Addr]map[*stallConn]struct{})}
}

// admit reports whether a new connection may stay, and closes the one whose place it takes, if any.
func (l *limit) admit(c *stallConn) bool {
	if l.max <= 0 {
		return true
	}
	l.mu.Lock()
	var instead *stallConn
	if l.open >= l.max {
		if instead = l.victim(len(l.addresses[c.address]), c.address); instead == nil {
			l.mu.Unlock()
			return false
		}
		l.removeLocked(instead)
	}
	if l.addresses[c.address] == nil {
		l.addresses[c.address] = make(map[*stallConn]struct{})
	}
	l.addresses[c.address][c] = struct{}{}
	l.open++
	l.mu.Unlock()
	if instead != nil {
		instead.Close()
	}
	return true
}

// victim returns the connection that gives way to one of an address that has own connections. l.mu is
// held.
func (l *limit) victim(own int, address netip.Addr) *stallConn {
	var idle, oldest *stallConn
	idleMost, most := 0, own+1
	longEnough := time.Now().Add(-minIdle).UnixNano()
	for from, conns := range l.addresses {
		n := len(conns)
		if n > idleMost && (n > own || from == address) {
			if c := first(conns, func(c *stallConn) int64 {
				if since := c.idleSince.Load(); since <= longEnough {
					return since
				}
				return 0
			}); c != nil {
				idle, idleMost = c, n
			}
		}
		if n > most {
			oldest, most = first(conns, func(c *stallConn) int64 { return c.accepted }), n
		}
	}
	if idle != nil {
		return idle
	}
	return oldest
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

// SetIdle notes whether the connection of ctx is idle: whether it has no request. It is for an HTTP/2
// engine, whose connections never count as idle otherwise.
func SetIdle(ctx context.Context, idle bool) {
	if c, ok := ctx.Value(connKey{}).(*stallConn); ok {
		c.setIdle(idle)
	}
}

func (c *stallConn) setIdle(idle bool) {
	if idle {
		c.headEnds()
		c.idleSince.Store(time.Now().UnixNano())
	} else {
		c.idleSince.Store(0)
	}
}

// noteIdle notes when an HTTP/1.1 connection has no request.
func noteIdle(next http.Handler, w http.ResponseWriter, r *http.Request) {
	SetIdle(r.Context(), false)
	defer SetIdle(r.Context(), true)
	next.ServeHTTP(w, r)
}
