package h2

import (
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
)

// Stats counts what the connections of one server do. Set it as Config.Stats and call Read at any
// time. Streams are counted by their connections, under a lock that these hold anyway, and Read
// adds them up.
type Stats struct {
	connections, closed           atomic.Uint64
	resetsSent, resetsReceived    codeCounts
	goAwaysSent, goAwaysReceived  codeCounts
	refusedHeader, refusedConnect atomic.Uint64
	refusedTLS, refusedHost       atomic.Uint64
	late                          [lateReasons]atomic.Uint64

	mu      sync.Mutex
	server  *server
	streams uint64 // of connections that have closed
}

// Counts is what Stats has counted. The keys of the maps of resets and GOAWAYs are the error codes
// of RFC 9113 §7 in lower case, such as "refused_stream", and "other". Every code is present.
type Counts struct {
	// Connections is how many connections have used HTTP/2, ConnectionsOpen how many of them are
	// open.
	Connections, ConnectionsOpen uint64
	// Streams is how many streams clients have opened, StreamsOpen how many are open or have a
	// handler that still runs.
	Streams, StreamsOpen uint64
	// ResetsSent and ResetsReceived count RST_STREAM frames, GoAwaysSent and GoAwaysReceived GOAWAY
	// frames. The two GOAWAYs that a graceful shutdown sends count as one.
	ResetsSent, ResetsReceived   map[string]uint64
	GoAwaysSent, GoAwaysReceived map[string]uint64
	// Refused counts requests that the engine answered in place of the handler ("header_too_large",
	// "connect_method", "bad_host") and connections whose TLS version or cipher suite is too weak ("tls").
	Refused map[string]uint64
	// TimedOut counts connections that were closed because the peer took too long: to send its
	// first SETTINGS ("handshake"), to send the rest of a header block or control frame ("header"),
	// to read what was sent ("write"), or to answer a PING ("ping").
	TimedOut map[string]uint64
}

// lateReason is the timeout that closed a connection.
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

// codeCounts counts by error code. Its last element counts codes that RFC 9113 does not define.
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
			"bad_host":         s.refusedHost.Load(),
		},
		TimedOut: make(map[string]uint64, lateReasons),
	}
	for reason := lateHandshake; reason < lateReasons; reason++ {
		counts.TimedOut[reason.String()] = s.late[reason].Load()
	}
	closed := s.closed.Load() // read first, so that it is never larger than connections
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
	// A connection that closes meanwhile is in conns, and its streams are not in s.streams yet.
	for _, c := range conns {
		c.mu.Lock()
		counts.Streams += c.opened
		counts.StreamsOpen += uint64(c.active)
		c.mu.Unlock()
	}
	return counts
}

// ended adds the streams of a connection that has closed. server.mu is held.
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
