package h2

// scheduleFlush has the output written: by its owner if it has one, or else by a worker. c.mu is
// held.
func (c *conn) scheduleFlush() {
	// The claim comes before fill, which may end the last stream and so call scheduleFlush again
	// (becameIdle).
	if c.dead || !c.out.claim() {
		return
	}
	if c.out.ready.n > 0 {
		c.fill()
	}
	if c.hasOutput() || c.closing.due() {
		c.out.handOver()
		c.srv.workers.run((*flusher)(c))
	} else {
		c.out.rest(true)
	}
}

// hasOutput reports whether there is something to write. After the half-close nothing may be
// written: the attempt would fail and close the whole connection, and the peer could lose what it
// has not read yet.
func (c *conn) hasOutput() bool { return !c.out.empty() && !c.closing.halfClosed }

// flusher is the task of writing a connection's output.
type flusher conn

func (f *flusher) run() {
	c := (*conn)(f)
	c.out.yield()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.takeOver() {
		c.flushLocked()
	}
}

// takeFlush reports whether the caller, a handler's goroutine that has nothing else to do, should
// write the output. If so, the caller owns it and must call flush. c.mu is held.
func (c *conn) takeFlush() bool {
	return !c.dead && c.hasOutput() && c.out.claimForHandler()
}

// flush writes output until there is none. Only the owner of the output may call it.
func (c *conn) flush() {
	c.out.yield()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushLocked()
}

// flushLocked writes output until there is none. c.mu is held, though not during system calls. Only
// the owner of the output may call it.
func (c *conn) flushLocked() {
	for !c.dead {
		if c.out.ready.n > 0 {
			c.fill()
		}
		if !c.hasOutput() {
			if !c.closing.due() {
				break
			}
			c.closing.halfClosed = true
			c.mu.Unlock()
			c.halfClose()
			c.mu.Lock()
			continue
		}
		b := c.out.beginWrite()
		c.timer.wake(c)
		c.live.writeBegins()
		c.mu.Unlock()
		_, err := c.nc.Write(b)
		c.mu.Lock()
		c.live.writeEnds(len(b))
		c.out.endWrite()
		if err != nil {
			c.fail()
		}
	}
	c.out.rest(!c.dead && c.active > 0)
}
