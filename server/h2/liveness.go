package h2

import (
	"sync/atomic"
	"time"
)

// tickClock has the timeouts of Config in ticks. Each connection has one timer and measures time in
// its ticks, so recording the time of an event needs neither a system call nor another timer. Zero
// ticks mean no timeout.
type tickClock struct {
	period                               time.Duration
	handshake, header, stall, streamIdle uint32
	ping, pingTimeout, closed            uint32
	idle                                 time.Duration
	slowest                              int // bytes that the slowest reader takes in one tick
}

// slowestReader is the rate, in bytes per second, of the slowest peer whose answer to a PING is
// waited for while it still reads the output that came before the PING.
const slowestReader = 16 << 10

func newTickClock(cfg Config) tickClock {
	period := 2 * time.Second
	for _, d := range []time.Duration{cfg.handshakeTimeout, cfg.headerTimeout, cfg.StallTimeout, cfg.PingInterval,
		cfg.PingTimeout, cfg.idleTimeout, cfg.streamIdleTimeout} {
		if d > 0 {
			period = min(period, d/4)
		}
	}
	period = max(period, 2*time.Millisecond)
	ticks := func(d time.Duration) uint32 {
		if d <= 0 {
			return 0
		}
		return uint32((d+period-1)/period) + 1 // the current tick has begun already, so it does not count
	}
	return tickClock{
		period:      period,
		handshake:   ticks(cfg.handshakeTimeout),
		header:      ticks(cfg.headerTimeout),
		stall:       ticks(cfg.StallTimeout),
		streamIdle:  ticks(cfg.streamIdleTimeout),
		ping:        ticks(cfg.PingInterval),
		pingTimeout: ticks(cfg.PingTimeout),
		closed:      ticks(closedMemory),
		idle:        cfg.idleTimeout,
		slowest:     max(1, int(period*slowestReader/time.Second)),
	}
}

// expired reports whether a timeout of the given number of ticks, which began at since, has passed.
func expired(now, since, ticks uint32) bool { return ticks > 0 && now-since >= ticks }

// liveness judges whether the peer of a connection still does its part. Each mark has one meaning
// and one timeout:
//
//   - The peer's first SETTINGS frame has not arrived: Config.handshakeTimeout.
//   - A header is under way, which is a frame other than DATA, the nine bytes before the payload of
//     a DATA frame, or a header block: Config.headerTimeout. The payload of a DATA frame belongs to
//     its stream.
//   - A write is blocked: Config.StallTimeout. The write itself shows whether the peer reads, so no
//     PING is sent and none is late meanwhile.
//   - The peer is silent: after Config.PingInterval it gets a PING, for whose answer it has
//     Config.PingTimeout from when the socket has taken the PING and a slow reader has read what
//     was written before it.
//   - There is no stream: Config.idleTimeout.
//
// What a single stream waits for is judged by its progress. All times are in ticks. liveness is
// guarded by conn.mu, apart from input.
type liveness struct {
	clock   *tickClock
	input   inputMarks
	now     uint32 // ticks so far
	settled bool   // the peer's first SETTINGS frame has arrived

	reads    uint32 // input.reads at the last tick
	heardAt  uint32 // when the peer last sent something, or took output that it had kept waiting
	header   uint32 // input.header at the last tick
	headerAt uint32 // when that last changed

	writing bool // a goroutine is in the system call
	writeAt uint32
	backlog int // bytes written that the peer may not have read yet

	ping   pingState
	pingAt uint32 // when the socket had taken the PING

	idleSince uint32 // when the last stream ended
}

// inputMarks are what the reader goroutine tells liveness. It does so before each read of the
// socket, so they are atomic and not guarded by conn.mu.
type inputMarks struct {
	reads  atomic.Uint32 // reads of the socket, begun when all earlier input had been handled
	header atomic.Uint32 // begins and ends of headers, so it is odd while one is under way
}

// headerBegins and headerEnds may be called twice in a row.
func (m *inputMarks) headerBegins() {
	if !m.underWay() {
		m.header.Add(1)
	}
}

func (m *inputMarks) headerEnds() {
	if m.underWay() {
		m.header.Add(1)
	}
}

func (m *inputMarks) underWay() bool { return m.header.Load()&1 == 1 }

// pingState is how far our PING has come.
type pingState uint8

const (
	noPing     pingState = iota
	pingQueued           // it is in the output buffer
	pingSent             // the socket has taken it
)

// maxBacklog bounds liveness.backlog: sockets rarely buffer more.
const maxBacklog = 4 << 20

// quiet reports whether nothing has arrived since the last tick.
func (l *liveness) quiet() bool { return l.input.reads.Load() == l.reads }

// tick records that one period has passed.
func (l *liveness) tick() {
	l.now++
	l.backlog = max(0, l.backlog-l.clock.slowest)
	if reads := l.input.reads.Load(); reads != l.reads {
		l.reads, l.heardAt, l.ping = reads, l.now, noPing
	}
	if header := l.input.header.Load(); header != l.header {
		l.header, l.headerAt = header, l.now
	}
}

// slept records that a connection without streams has slept for some time. idleSince stays, so that
// frames without a stream do not prolong the idle timeout.
func (l *liveness) slept(d time.Duration) {
	l.now += uint32(d / l.clock.period)
	l.heardAt, l.ping, l.backlog = l.now, noPing, 0
}

func (l *liveness) writeBegins() { l.writing, l.writeAt = true, l.now }

// writeEnds records that the socket has taken n bytes.
func (l *liveness) writeEnds(n int) {
	l.writing = false
	l.backlog = min(l.backlog+n, maxBacklog)
	blocked := l.now != l.writeAt
	if blocked {
		l.heardAt = l.now // the peer is reading, if slowly
	}
	if l.ping == pingQueued || blocked && l.ping == pingSent {
		l.ping, l.pingAt = pingSent, l.now
	}
}

// pingDue reports whether to send a PING, and expects that to be done. open says whether there are
// streams.
func (l *liveness) pingDue(open bool) bool {
	due := open && l.ping == noPing && !l.writing && expired(l.now, l.heardAt, l.clock.ping)
	if due {
		l.ping = pingQueued
	}
	return due
}

// pingAnswered records that the peer has read everything up to a PING.
func (l *liveness) pingAnswered() { l.ping, l.backlog = noPing, 0 }

// late returns which timeout the peer has exceeded, or notLate. open says whether there are
// streams.
func (l *liveness) late(open bool) lateReason {
	switch {
	case !l.settled && expired(l.now, 0, l.clock.handshake):
		return lateHandshake
	case l.header&1 == 1 && expired(l.now, l.headerAt, l.clock.header):
		return lateHeader
	case l.writing:
		if expired(l.now, l.writeAt, l.clock.stall) {
			return lateWrite
		}
	case open && l.ping == pingSent && l.backlog == 0 && expired(l.now, l.pingAt, l.clock.pingTimeout):
		return latePing
	}
	return notLate
}

// idle reports whether nothing is going on. open says whether there are streams.
func (l *liveness) idle(open bool) bool { return !open && l.settled && !l.writing }

// idleFor returns for how long there has been no stream.
func (l *liveness) idleFor() time.Duration {
	return time.Duration(l.now-l.idleSince) * l.clock.period
}

// waits is what a stream waits for.
type waits uint8

const (
	forHandler    waits = iota // the peer owes nothing
	forBody                    // the rest of a request of declared length
	forMessage                 // more of a request of undeclared length, which may take long
	forWindow                  // its own flow-control window, for the reply
	forConnWindow              // the window of the connection, for the reply
	forTurn                    // its turn behind the output of others; liveness judges the write
	forRest                    // the end of a request whose reply is complete
)

// progress judges whether a stream moves: how long it has waited for the same thing.
type progress struct {
	waits waits
	since uint32 // the tick since when
	moved uint32 // bytes that had moved by then, of the stream or, forConnWindow, of the connection
}

// minProgress is how many bytes count as progress within a timeout. A peer that sends or takes a
// byte now and then would hold a stream for as long as it likes.
const minProgress = 64

// answeredLinger is how many ticks a client may take to end a request whose reply is complete. A
// connection that is to end does not wait for it.
const answeredLinger = 2

// stuck reports whether the stream has waited too long. It is called in each tick, with what the
// stream waits for and how many bytes have moved so far.
func (p *progress) stuck(l *liveness, w waits, moved uint32) bool {
	enough := uint32(minProgress)
	if w == forMessage {
		enough = 1
	}
	if w != p.waits || moved-p.moved >= enough {
		*p = progress{w, l.now, moved}
		return false
	}
	switch w {
	case forBody, forWindow, forConnWindow:
		return expired(l.now, p.since, l.clock.stall)
	case forMessage:
		return expired(l.now, p.since, l.clock.streamIdle)
	case forRest:
		return expired(l.now, p.since, answeredLinger)
	}
	return false
}
