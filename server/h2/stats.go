package h2

import (
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
)

// Stats counts what the connections of one server do. Put one into Config.Stats and Read it at any time. What happens
// with every request is counted by its connection under a lock that it holds anyway, and added up when somebody reads.
type Stats struct {
	connections, closed           atomic.Uint64
	resetsSent, resetsReceived    codeCounts
	goAwaysSent, goAwaysReceived  codeCounts
	refusedHeader, refusedConnect atomic.Uint64
	refusedTLS                    atomic.Uint64
	late                          [lateReasons]atomic.Uint64

	mu      sync.Mutex
	server  *server
	streams uint64 // of connections that have closed
}

// Counts is what Stats has counted. The maps' keys are error codes of RFC 9113 §7 in lower case, such as
// "refused_stream", and every code is there.
type Counts struct {
	// Connections have begun to speak HTTP/2; so many of them are open.
	Connections, ConnectionsOpen uint64
	// Streams were opened by clients; so many are open, or their handlers run on.
	Streams, StreamsOpen uint64
	// ResetsSent and ResetsReceived are RST_STREAM frames, GoAwaysSent and GoAwaysReceived are GOAWAYs; that a
	// graceful end takes two of those is counted as one.
	ResetsSent, ResetsReceived   map[string]uint64
	GoAwaysSent, GoAwaysReceived map[string]uint64
	// Refused is requests that were answered in place of the handler ("header_too_large", "connect_method") and
	// connections whose TLS is not fit for HTTP/2 ("tls").
	Refused map[string]uint64
	// TimedOut is connections that were closed because the peer took too long: "handshake" for its first SETTINGS,
	// "header" for the rest of a header block or control frame, "write" to read what was sent, "ping" to answer one.
	TimedOut map[string]uint64
}

// lateReason is why a connection was closed as too slow.
type lateReason uint8

const (
	notLate lateReason = iota
	lateHandshake
	lateHeader
	lateWrite
	latePing
	lateReasons
)

func (r lateReason) String() string {
	return [lateReasons]string{"", "handshake", "header", "write", "ping"}[r]
}

// codeCounts counts by error code; those that RFC 9113 does not have go under the last.
type codeCounts [http2.ErrCodeHTTP11Required + 2]atomic.Uint64

func (c *codeCounts) add(code http2.ErrCode) { c[min(int(code), len(c)-1)].Add(1) }

func (c *codeCounts) read() map[string]uint64 {
	counts := make(map[string]uint64, len(c))
	for code := range c {
		name := "other"
		if code < len(c)-1 {
			name = strings.ToLower(http2.ErrCode(code).String())
		}
		counts[name] = c[code].Load()
	}
	return counts
}

// Read returns what has been counted.
func (s *Stats) Read() Counts {
	counts := Counts{
		ResetsSent:      s.resetsSent.read(),
		ResetsReceived:  s.resetsReceived.read(),
		GoAwaysSent:     s.goAwaysSent.read(),
		GoAwaysReceived: s.goAwaysReceived.read(),
		Refused: map[string]uint64{
			"header_too_large": s.refusedHeader.Load(),
			"connect_method":   s.refusedConnect.Load(),
			"tls":              s.refusedTLS.Load(),
		},
		TimedOut: make(map[string]uint64, lateReasons),
	}
	for reason := lateHandshake; reason < lateReasons; reason++ {
		counts.TimedOut[reason.String()] = s.late[reason].Load()
	}
	closed := s.closed.Load() // first, so that it is never the larger one
	counts.Connections = s.connections.Load()
	counts.ConnectionsOpen = counts.Connections - closed

	s.mu.Lock()
	srv := s.server
	s.mu.Unlock()
	if srv == nil {
		return counts // no server has been configured with it
	}
	srv.mu.Lock()
	conns := make([]*conn, 0, len(srv.conns))
	for c := range srv.conns {
		conns = append(conns, c)
	}
	s.mu.Lock()
	counts.Streams = s.streams
	s.mu.Unlock()
	srv.mu.Unlock()
	// One that closes meanwhile is among conns, and was not yet among the closed.
	for _, c := range conns {
		c.mu.Lock()
		counts.Streams += c.opened
		counts.StreamsOpen += uint64(c.active)
		c.mu.Unlock()
	}
	return counts
}

// ended adds the streams of a connection that is gone; the server's mu is held.
func (s *Stats) ended(streams uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams += streams
}

func (s *Stats) attach(srv *server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server = srv
}
