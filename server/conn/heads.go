package conn

import (
	"errors"
	"net/netip"
	"sync"
)

// net/http keeps the header of an HTTP/1.1 request while it arrives and until the request has been
// answered, and has a bound for each header but none for all of them: 10,000 headers of many short
// lines would take 600 MB. So the port has one. A header is charged for what comes beyond
// shortHeader, which a connection may have in any case, with headCost for each byte: a line of five
// bytes takes some twenty in memory.
const (
	shortHeader = 2 << 10
	headCost    = 3
	// maxHeads is the maximum for all connections, in bytes of memory. Of the last quarter the
	// connections of an address may hold an eighth of the whole together.
	maxHeads = 16 << 20
)

var errHeads = errors.New("the requests of this port have too many long headers at a time")

// heads is the account of the long headers of a port.
type heads struct {
	mu   sync.Mutex
	used int
	held map[netip.Addr]int
}

func newHeads() *heads { return &heads{held: make(map[netip.Addr]int)} }

// take charges n bytes to an address. It reports false if they are not to be had.
func (h *heads) take(address netip.Addr, n int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	used, held := h.used+n, h.held[address]+n
	if used > maxHeads || used > maxHeads-maxHeads/4 && held > maxHeads/8 {
		return false
	}
	h.used, h.held[address] = used, held
	return true
}

func (h *heads) giveBack(address netip.Addr, n int) {
	if n == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.used -= n
	if h.held[address] -= n; h.held[address] == 0 {
		delete(h.held, address)
	}
}

// Read implements net.Conn. It fails if it reads more of a header than the port has memory for.
func (c *stallConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.left.Load() && c.idleSince.Load() != 0 && !c.chargeHead(n) {
		return 0, errHeads
	}
	return n, err
}

// chargeHead charges what was read of a header. It reports false if that is too much.
func (c *stallConn) chargeHead(n int) bool {
	c.headMu.Lock()
	defer c.headMu.Unlock()
	if c.left.Load() {
		return true // it has been closed meanwhile
	}
	c.head += n
	more := headCost*max(0, c.head-shortHeader) - c.headCharged
	if more <= 0 {
		return true
	}
	if !c.heads.take(c.address, more) {
		return false
	}
	c.headCharged += more
	return true
}

// headEnds returns what a header was charged: its request has been answered, or its connection is
// closed or speaks HTTP/2.
func (c *stallConn) headEnds() {
	c.headMu.Lock()
	defer c.headMu.Unlock()
	c.heads.giveBack(c.address, c.headCharged)
	c.head, c.headCharged = 0, 0
}
