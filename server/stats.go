package server

import (
	"sync/atomic"

	"example.com/roster/server/h2"
)

// Stats counts the connections of a port. The zero value is ready; read it at
// any time.
type Stats struct {
	// HTTP2 is of those that speak HTTP/2, and stays zero with
	// Config.StandardHTTP2.
	HTTP2 h2.Stats

	accepted, closed atomic.Uint64
}

// Connections returns how many connections the port has accepted so far, and
// how many of them are open.
func (s *Stats) Connections() (accepted, open uint64) {
	closed := s.closed.Load() // first, so that it is never the larger one
	accepted = s.accepted.Load()
	return accepted, accepted - closed
}
