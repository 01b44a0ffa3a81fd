package h2

// credit records that n bytes of request bodies were consumed, and returns them to the peer's
// windows in large steps: to the connection's window and, with toStream, to that of s. It takes the
// connection's lock only when a step is due or toStream is set.
func (c *conn) credit(s *stream, n int, toStream bool) {
	if n == 0 {
		return
	}
	due := c.connCredit.Add(int64(n)) >= int64(c.srv.cfg.ConnWindow)/4
	if !due && !toStream {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return
	}
	wrote := false
	if back := c.connCredit.Load(); back >= int64(c.srv.cfg.ConnWindow)/4 {
		c.connCredit.Add(-back)
		c.recvWindow += back
		c.framer.WriteWindowUpdate(0, uint32(back))
		wrote = true
	}
	if toStream && !s.closed && !s.recvEnd {
		s.unacked += int64(n)
		if s.unacked >= int64(c.srv.cfg.StreamWindow)/4 {
			s.recvWindow += s.unacked
			c.framer.WriteWindowUpdate(s.id, uint32(s.unacked))
			s.unacked = 0
			s.moved += minProgress // the peer may have waited for it
			wrote = true
		}
	}
	if wrote {
		c.scheduleFlush()
	}
}
