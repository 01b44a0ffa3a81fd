package h2

import (
	"time"

	"golang.org/x/net/http2"
)

// connTimer calls conn.tick every period while the connection has streams, and lets the timer of an
// idle connection sleep until its idle timeout. It is guarded by conn.mu.
type connTimer struct {
	t        *time.Timer
	sleeping bool
	slept    time.Time // when it began to sleep
	stopped  bool
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
		c.live.slept(time.Since(t.slept))
		t.t.Reset(c.srv.clock.period)
	}
}

// tick runs every clock.period, or after clock.idle if the connection has been asleep.
func (c *conn) tick() {
	clock := &c.srv.clock
	c.mu.Lock()
	t, l := &c.timer, &c.live
	if t.stopped || c.dead {
		c.mu.Unlock()
		return
	}
	open := c.active > 0
	idleOut := t.sleeping && !open
	t.sleeping = false
	if l.quiet() && !c.closing.halfClosed {
		c.in.recall()
	}
	l.tick()
	c.streams.closed.expire(l.now, clock.closed)
	idle := l.idle(open)
	if idle && clock.idle > 0 && l.idleFor() >= clock.idle {
		idleOut = true
	}
	var stuck []*stream
	switch late := l.late(open); {
	case late != notLate:
		c.srv.stats.late[late].Add(1)
		c.fail()
	case open:
		if l.pingDue(open) {
			c.framer.WritePing(false, [8]byte{'a', 'l', 'i', 'v', 'e', '?'})
			c.scheduleFlush()
		}
		stuck = c.resetStuck()
	}
	next := clock.period
	if idle && !idleOut && l.now-l.idleSince > 1 && l.header&1 == 0 && len(c.streams.closed.resets) == 0 && !c.in.grown.Load() {
		t.sleeping, t.slept = true, time.Now()
		if next = clock.idle - l.idleFor(); clock.idle <= 0 {
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

// waitsFor returns what a stream waits for, and how many bytes have moved that it waits for. c.mu
// is held.
func (c *conn) waitsFor(s *stream) (w waits, moved uint32) {
	needsWindow := s.out.needsWindow()
	switch {
	case s.answered():
		return forRest, 0
	case needsWindow && s.flow.send.closed():
		return forWindow, s.moved
	case needsWindow && c.flow.send.closed():
		return forConnWindow, c.moved
	case !s.out.empty():
		return forTurn, s.moved
	case s.recvEnd || s.awaits100 || s.flow.recv.closed() || c.flow.recv.closed():
		return forHandler, s.moved
	case s.declared >= 0:
		return forBody, s.moved
	}
	return forMessage, s.moved
}

// resetStuck resets streams that have waited too long and returns those whose handlers are to be
// interrupted. c.mu is held.
func (c *conn) resetStuck() (stuck []*stream) {
	for _, s := range c.streams.open {
		w, moved := c.waitsFor(s)
		switch {
		case !s.progress.stuck(&c.live, w, moved):
		case w == forRest:
			c.stopRequest(s)
		default:
			c.resetStream(s, http2.ErrCodeCancel, errStreamStuck)
			stuck = append(stuck, s)
		}
	}
	return stuck
}
