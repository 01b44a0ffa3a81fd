package h2

import (
	"time"

	"golang.org/x/net/http2"
)

// tickClock has the timeouts of Config in ticks. Each connection has one timer and measures time in
// its ticks, so recording the time of an event needs neither a system call nor another timer. Zero
// ticks mean no timeout.
type tickClock struct {
	period                               time.Duration
	handshake, header, stall, streamIdle uint32
	ping, pingTimeout                    uint32
	idle                                 time.Duration
}

func newTickClock(cfg Config) tickClock {
	period := 2 * time.Second
	for _, d := range []time.Duration{cfg.HandshakeTimeout, cfg.HeaderTimeout, cfg.StallTimeout, cfg.PingInterval,
		cfg.PingTimeout, cfg.IdleTimeout, cfg.StreamIdleTimeout} {
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
		handshake:   ticks(cfg.HandshakeTimeout),
		header:      ticks(cfg.HeaderTimeout),
		stall:       ticks(cfg.StallTimeout),
		streamIdle:  ticks(cfg.StreamIdleTimeout),
		ping:        ticks(cfg.PingInterval),
		pingTimeout: ticks(cfg.PingTimeout),
		idle:        cfg.IdleTimeout,
	}
}

// connTimer checks the timeouts of one connection. It is guarded by conn.mu.
type connTimer struct {
	t        *time.Timer
	now      uint32    // ticks so far
	sleeping bool      // the connection is idle, so the timer runs only at the idle timeout
	slept    time.Time // when it began to sleep
	stopped  bool

	reads     uint32 // conn.reads at the last tick
	alive     uint32 // the tick when it last changed
	partial   uint32 // conn.partial at the last tick
	partialAt uint32 // the tick when it last changed
	idleSince uint32
	wrote     uint32 // the tick when the current write began
	pinging   bool   // a PING is not answered yet
	pingAt    uint32
}

func (t *connTimer) start(c *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t.t = time.AfterFunc(c.srv.clock.period, c.tick)
}

func (c *conn) stopTimer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer.stopped = true
	c.timer.t.Stop()
	if c.closing.timer != nil {
		c.closing.timer.Stop()
	}
}

// wake makes a sleeping timer tick again. c.mu is held.
func (t *connTimer) wake(c *conn) {
	if t.sleeping && !t.stopped {
		t.sleeping = false
		// idleSince stays, so that frames without a stream do not prolong the idle timeout.
		t.now += uint32(time.Since(t.slept) / c.srv.clock.period)
		t.alive, t.pinging = t.now, false
		t.t.Reset(c.srv.clock.period)
	}
}

// tick runs every clock.period, or after clock.idle if the connection has been asleep.
func (c *conn) tick() {
	clock := &c.srv.clock
	c.mu.Lock()
	t := &c.timer
	if t.stopped || c.dead {
		c.mu.Unlock()
		return
	}
	idleOut := t.sleeping && c.active == 0
	t.sleeping = false
	t.now++
	if reads := c.reads.Load(); reads != t.reads {
		t.reads, t.alive, t.pinging = reads, t.now, false
	}
	if partial := c.partial.Load(); partial != t.partial {
		t.partial, t.partialAt = partial, t.now
	}
	idle := c.active == 0 && c.gotSettings && !c.writing
	if idle && clock.idle > 0 && time.Duration(t.now-t.idleSince)*clock.period >= clock.idle {
		idleOut = true
	}
	var stuck []*stream
	late := c.late()
	switch {
	case late != notLate:
		c.srv.stats.late[late].Add(1)
		c.fail()
	case c.active > 0:
		if !t.pinging && expired(t.now, t.alive, clock.ping) {
			t.pinging, t.pingAt = true, t.now
			c.framer.WritePing(false, [8]byte{'a', 'l', 'i', 'v', 'e', '?'})
			c.scheduleFlush()
		}
		stuck = c.resetStuck()
	}
	next := clock.period
	if idle && !idleOut && t.now-t.idleSince > 1 && t.partial&1 == 0 {
		t.sleeping, t.slept = true, time.Now()
		if next = clock.idle - time.Duration(t.now-t.idleSince)*clock.period; clock.idle <= 0 {
			next = 1 << 40 // about 18 minutes, to check again
		}
	}
	t.t.Reset(next)
	c.mu.Unlock()
	for _, s := range stuck {
		s.interrupt(errStreamStuck)
	}
	if idleOut && clock.idle > 0 {
		c.startShutdown()
	}
}

// late returns which timeout the peer has exceeded, or notLate. c.mu is held.
func (c *conn) late() lateReason {
	clock, t := &c.srv.clock, &c.timer
	switch {
	case expired(t.now, 0, clock.handshake) && !c.gotSettings:
		return lateHandshake
	case expired(t.now, t.partialAt, clock.header) && t.partial&1 == 1:
		return lateHeader
	case expired(t.now, t.wrote, clock.stall) && c.writing:
		return lateWrite
	case expired(t.now, t.pingAt, clock.pingTimeout) && t.pinging && c.active > 0:
		return latePing
	}
	return notLate
}

// expired reports whether a timeout of the given number of ticks, which began at since, has passed.
func expired(now, since, ticks uint32) bool { return ticks > 0 && now-since >= ticks }

// resetStuck resets streams that have made no progress for too long and returns them: the peer
// gives no window for a reply, does not send a body whose length it has declared, or sends nothing
// on a stream whose length is not declared. c.mu is held.
func (c *conn) resetStuck() (stuck []*stream) {
	clock, now := &c.srv.clock, c.timer.now
	for _, s := range c.streams {
		var why bool
		switch {
		case s.answered():
			if expired(now, s.active, answeredLinger) {
				c.stopRequest(s)
			}
		case !s.out.empty():
			why = expired(now, s.active, clock.stall)
		case s.recvEnd || s.recvWindow <= 0 || c.recvWindow <= 0:
			// The stream waits for its handler.
		case s.declared >= 0:
			why = expired(now, s.active, clock.stall)
		default:
			why = expired(now, s.active, clock.streamIdle)
		}
		if why {
			c.resetStream(s, http2.ErrCodeCancel, errStreamStuck)
			stuck = append(stuck, s)
		}
	}
	return stuck
}
