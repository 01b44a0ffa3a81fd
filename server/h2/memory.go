package h2

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// StreamCost is how many bytes of Config.MaxMemory an open stream and its handler are charged besides
// the size of the request's header: for the request and the reply, small buffers of both, and a
// goroutine.
const StreamCost = 12 << 10

// memory is the account of what all connections of a server hold beyond what every connection needs,
// which Config.MaxMemory limits. These parts are charged, before they are allocated:
//
//   - each open stream, with StreamCost and the size of its header;
//   - bodies that handlers have not read, if they need more than a small buffer;
//   - what has been read of a frame or is written for a peer that does not read it, if it needs more
//     than a small buffer;
//   - header blocks of several frames, while they are under way.
//
// Three quarters of the memory are given to any connection that asks. Of the rest, the connections of
// an address get something as long as they hold no more than a sixteenth of what is free, all that they
// have included. So callers behind one address, such as those of a proxy, get three quarters, and when
// many addresses have taken what they can, one after the other, there is still something for another:
// after 40 of them, a fiftieth of the memory is free.
type memory struct {
	size int64
	used atomic.Int64

	mu        sync.Mutex
	addresses map[netip.Prefix]*addressShare
}

// addressShare is what the connections from one address hold together.
type addressShare struct {
	held  atomic.Int64
	conns int // guarded by memory.mu
}

// share is what one connection holds of a memory. The methods of a nil share do nothing.
type share struct {
	memory  *memory
	address *addressShare
	prefix  netip.Prefix
}

// join begins the share of a new connection.
func (m *memory) join(remote net.Addr) *share {
	prefix := networkOf(remote)
	m.mu.Lock()
	defer m.mu.Unlock()
	address := m.addresses[prefix]
	if address == nil {
		address = new(addressShare)
		m.addresses[prefix] = address
	}
	address.conns++
	return &share{memory: m, address: address, prefix: prefix}
}

// leave ends the share of a connection, whose handlers may still give back what they hold.
func (s *share) leave() {
	m := s.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.address.conns--; s.address.conns == 0 {
		delete(m.addresses, s.prefix)
	}
}

// networkOf returns the address that a connection counts for: that of the peer, or for IPv6 its
// network of 64 bits, which is what one customer usually has. Connections without an IP address, as
// those of Unix sockets, count as one.
func networkOf(remote net.Addr) netip.Prefix {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	address := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 64
	if address.Is4() {
		bits = 32
	}
	prefix, _ := address.Prefix(bits) // fails for an address that is not valid
	return prefix
}

// take charges n bytes. It reports false, and charges nothing, if the connection cannot have them.
func (s *share) take(n int) bool {
	if s == nil || s.allows(n) {
		s.charge(n)
		return true
	}
	return false
}

// allows reports whether take would succeed. Two connections that ask at once may both be allowed
// what is there for one: the excess is one buffer for each processor.
func (s *share) allows(n int) bool {
	m, add := s.memory, int64(n)
	used := m.used.Load() + add
	if used <= m.size-m.size/4 {
		return true
	}
	return s.address.held.Load()+add <= (m.size-used)/16
}

// charge charges n bytes in any case.
func (s *share) charge(n int) {
	if s == nil {
		return
	}
	s.memory.used.Add(int64(n))
	s.address.held.Add(int64(n))
}

// give returns n bytes.
func (s *share) give(n int) { s.charge(-n) }

// chargeBuffer charges what b takes beyond a small buffer. Whoever puts b back into its pool returns
// that.
func (s *share) chargeBuffer(b *buffer) {
	if more := cap(b.b) - b.charged; s != nil && cap(b.b) > smallBuffer && more != 0 {
		s.charge(more)
		b.share, b.charged = s, cap(b.b)
	}
}
