package h2

import (
	"net/http"

	"golang.org/x/net/http2"
)

// worthwhileData is the size from which a DATA frame that is sent earns overhead tokens, since it may
// make the peer send a PING and a WINDOW_UPDATE. Smaller frames are usually the fault of a peer that
// gives tiny windows.
const worthwhileData = 5

func (c *conn) writeReset(id uint32, code http2.ErrCode) {
	c.framer.WriteRSTStream(id, code)
	c.srv.stats.resetsSent.add(code)
	c.out.control++
}

// emit moves up to budget bytes of the stream's reply body into the output buffer, with the headers
// before them and the trailers after them. c.mu is held.
func (c *conn) emit(s *stream, budget int) {
	p := &s.out
	if p.informational != 0 {
		c.out.addHeaders(&c.headers.enc, s.id, p.informational, p.informationalFields, -1, false)
		p.informational, p.informationalFields = 0, nil
	}
	if p.header {
		s.moved += minProgress
		end := p.end && p.size() == 0 && len(p.trailer) == 0
		c.out.addHeaders(&c.headers.enc, s.id, s.reply.status, s.reply.fields, s.reply.length, end)
		p.header, s.sentHeader, s.awaits100 = false, true, false
		if end {
			c.sentEnd(s)
			return
		}
	}
	for p.size() > 0 {
		n := min(int64(p.size()), int64(budget), sliceSize, int64(s.flow.send), int64(c.flow.send))
		if n <= 0 {
			return
		}
		budget -= int(n)
		end := p.end && int(n) == p.size() && len(p.trailer) == 0
		c.writeData(s, int(n), end)
		if end {
			c.sentEnd(s)
			return
		}
	}
	switch {
	case !p.end:
		s.notify()
		return
	case len(p.trailer) > 0:
		c.out.addHeaders(&c.headers.enc, s.id, 0, p.trailer, -1, true)
	default:
		c.writeData(s, 0, true)
	}
	c.sentEnd(s)
}

// writeData appends a DATA frame with the next n bytes of the reply. c.mu is held.
func (c *conn) writeData(s *stream, n int, end bool) {
	s.moved += uint32(n)
	c.moved += uint32(n)
	s.flow.send -= window(n)
	c.flow.send -= window(n)
	if n >= worthwhileData {
		// Some clients send a WINDOW_UPDATE for every few KiB.
		c.earned = min(c.earned+2+n/1024, c.srv.cfg.overheadBurst)
	}
	c.out.addData(s.id, &s.out.data, n, end)
}

// sentEnd records that END_STREAM was sent. c.mu is held.
//
// The client may still be sending the request, although the reply is complete. Usually little is
// left, so it is read, checked and dropped, since some clients would take a reset for a failure. If
// more than maxSurplus bytes follow, or the connection is to end, the stream is reset.
func (c *conn) sentEnd(s *stream) {
	s.sendEnd = true
	s.out.end, s.out.trailer = false, nil
	if s.writeTimer != nil {
		s.writeTimer.Stop()
	}
	switch {
	case s.recvEnd:
		c.closeStream(s, closedByEnd, errStreamReset)
	case s.handlerDone && c.closing.started:
		c.stopRequest(s)
	default:
		s.notify()
	}
}

// submit moves s.out into the output buffer as far as windows and room allow, and queues the rest.
// If other streams are waiting, s is queued behind them. c.mu is held.
func (c *conn) submit(s *stream) {
	if room := c.out.room(); c.out.ready.n == 0 && room > 0 {
		c.emit(s, max(room, c.out.slice()))
	}
	c.enqueue(s)
}

// enqueue has s wait for its turn if it has output that its window allows. c.mu is held.
func (c *conn) enqueue(s *stream) {
	if s.closed || s.out.empty() || s.flow.send.closed() && s.out.needsWindow() {
		return
	}
	c.out.ready.push(s)
}

// fill fills the output buffer with up to sliceSize bytes of each waiting stream in turn. c.mu is
// held.
func (c *conn) fill() {
	for {
		progress := false
		for n := c.out.ready.n; n > 0 && c.out.room() > 0; n-- {
			s := c.out.ready.pop()
			if s.closed {
				continue
			}
			before := c.out.room()
			c.emit(s, c.out.slice())
			progress = progress || c.out.room() < before
			c.enqueue(s)
		}
		if !progress || c.out.ready.n == 0 || c.out.room() <= 0 {
			return
		}
	}
}

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
	c.out.addHeaders(&c.headers.enc, s.id, http.StatusContinue, nil, -1, false)
	c.scheduleFlush()
}
