package h2

import "net/http"

// awaitTaken blocks the handler until its output is in the output buffer or the stream is closed.
// c.mu is held, but not while it waits.
func (c *conn) awaitTaken(s *stream) error {
	if s.wake == nil {
		s.wake = make(chan struct{}, 1)
	}
	for !s.closed && (s.out.header || s.out.size() > 0 || s.out.informational != 0) {
		c.mu.Unlock()
		<-s.wake
		c.mu.Lock()
	}
	if s.closed && !s.sendEnd {
		return s.closeErr
	}
	return nil
}

// sendInformational sends a 1xx header block ahead of the reply (RFC 9113 §8.1). It waits for room
// in the output buffer, as a reply does.
func (c *conn) sendInformational(s *stream, status int, fields []field) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.closed || s.sentHeader || c.dead {
		return
	}
	s.out.informational, s.out.informationalFields = status, fields
	c.submit(s)
	c.scheduleFlush()
	c.awaitTaken(s)
}

// sendContinue sends status 100, for a client that waits for it before it sends the body (RFC 9110
// §10.1.1).
//
// It waits for nothing, since it is called by a Read, while a Write of another goroutine may wait for
// its turn. There is at most one for each stream, and it is short.
func (c *conn) sendContinue(s *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.awaits100 = false
	if s.closed || s.sentHeader || c.dead {
		return
	}
	c.writeHeaders(s.id, http.StatusContinue, nil, -1, false)
	c.scheduleFlush()
}
