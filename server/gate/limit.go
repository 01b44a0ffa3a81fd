package gate

import (
	"net/http"
	"sync"
	"sync/atomic"

	"example.com/roster/server/rpc"
)

// A limit bounds something that all requests of a port share, such as slots or bytes. Most of it goes
// to any request that comes. The rest, the reserve, is shared out once the limit is nearly reached:
// no caller and no connection may hold more than a certain part of the reserve, so that none can keep
// the others out by holding everything. A connection that holds nothing of the reserve gets what one
// request needs, even if that is more than its part.
type limit struct {
	size    atomic.Int64 // the limit
	reserve int64        // the part of it that is shared out
	perUser int64        // what one caller may hold of the reserve
	perConn int64        // what one connection may hold of it, unless it is a trusted proxy's
	used    atomic.Int64

	mu   sync.Mutex
	held map[any]int64 // of the reserve, by caller and by *connBudget
}

func newLimit(size, reserve, perUser, perConn int64) *limit {
	l := &limit{reserve: reserve, perUser: max(1, perUser), perConn: max(1, perConn), held: make(map[any]int64)}
	l.size.Store(size)
	return l
}

// grow raises the limit to size, if it is lower. The reserve stays.
func (l *limit) grow(size int64) {
	for before := l.size.Load(); before < size && !l.size.CompareAndSwap(before, size); before = l.size.Load() {
	}
}

// A claim is what one request holds of a limit. Its zero value holds nothing.
type claim struct {
	limit    *limit
	n        int64
	user     caller
	conn     *connBudget
	reserved bool // n is part of the reserve
}

// take claims n for a request. It reports false if the request cannot have them.
func (l *limit) take(r *http.Request, n int64) (claim, bool) {
	used := l.used.Add(n)
	size := l.size.Load()
	if used <= size-l.reserve {
		return claim{limit: l, n: n}, true
	}
	if used > size {
		l.used.Add(-n)
		return claim{}, false
	}
	conn, _ := r.Context().Value(connBudgetKey{}).(*connBudget)
	record := rpc.From(r.Context())
	shared := record != nil && record.Proxied // the connection carries the requests of many callers
	c := claim{l, n, callerOf(r), conn, true}
	l.mu.Lock()
	defer l.mu.Unlock()
	// However many callers take what they can of the reserve, some of it is left for one who has little.
	if l.held[c.user]+n > min(l.perUser, max((size-used)/16, 1)) || !shared && l.held[c.conn] > 0 && l.held[c.conn]+n > l.perConn {
		l.used.Add(-n)
		return claim{}, false
	}
	l.held[c.conn] += n
	l.held[c.user] += n
	return c, true
}

// giveBack returns what was claimed. It may be called once.
func (c *claim) giveBack() {
	if c.limit == nil {
		return
	}
	if c.reserved {
		c.limit.mu.Lock()
		for _, key := range [...]any{c.conn, c.user} {
			if c.limit.held[key] -= c.n; c.limit.held[key] <= 0 {
				delete(c.limit.held, key)
			}
		}
		c.limit.mu.Unlock()
	}
	c.limit.used.Add(-c.n)
}

// callerOf is the caller of a request: its identity, or its address if it has none.
func callerOf(r *http.Request) caller {
	if c := rpc.From(r.Context()); c != nil && c.Identity != "" {
		return caller{identity: c.Identity}
	}
	return caller{address: addressOf(r)}
}
