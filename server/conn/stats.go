package conn

import "sync/atomic"

// Stats counts the connections of a port. The zero value is ready; read it at any time.
type Stats struct{ accepted, closed, refused atomic.Uint64 }

// Connections returns how many connections the port has accepted so far, and how many of them are
// open.
func (s *Stats) Connections() (accepted, open uint64) {
	closed := s.closed.Load() // read first, so that it never exceeds accepted
	accepted = s.accepted.Load()
	return accepted, accepted - closed
}

// Refused returns how many of the accepted connections were closed at once, because the port had its
// maximum of them.
func (s *Stats) Refused() uint64 { return s.refused.Load() }
