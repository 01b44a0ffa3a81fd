package h2

import (
	"errors"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"time"

	"golang.org/x/net/http2"
)

var (
	errStreamReset = errors.New("h2: stream was reset")
	errConnClosed  = errors.New("h2: client disconnected")
	errWriteLate   = os.ErrDeadlineExceeded
	errStreamStuck = errors.New("h2: stream made no progress for too long")
	errHandlerDone = errors.New("h2: ResponseWriter used after its handler returned")
)

// stream is one request and its reply. A handler may keep references to parts of it (writer, body,
// context), so it is never reused.
type stream struct {
	c  *conn
	id uint32

	// Owned by the reader goroutine.
	declared int64 // Content-Length of the request, or -1
	received int64 // bytes of its body so far
	started  bool  // the handler was started
	charged  int   // of the server's memory, until the stream and its handler have ended

	// Guarded by c.mu.
	recvEnd     bool // the peer has ended its side
	sentHeader  bool // the header of the reply is in the output buffer
	sendEnd     bool // END_STREAM of the reply is in the output buffer
	closed      bool // ended by both sides or reset; no longer in c.streams.open
	handlerDone bool
	closeErr    error // what writes return after that
	flow        streamFlow
	surplus     int64 // bytes received since the reply was complete
	progress    progress
	moved       uint32 // bytes of both directions, and some for what else is progress
	awaits100   bool   // the client waits for status 100 before it sends the body
	queued      bool   // in c.out.ready
	nextReady   *stream
	out         pendingReply
	writeTimer  *time.Timer
	wake        chan struct{} // where the handler waits for its output to be taken

	body  requestBody
	url   url.URL
	ctx   requestContext
	reply response
	req   http.Request
}

// pendingReply is the part of a reply that is not in the connection's output buffer yet.
type pendingReply struct {
	// A header block with a status from 100 to 199 is to be sent first, unless informational is 0.
	informational       int
	informationalFields []field

	// The header block is still to be sent. It consists of status, fields and length of
	// stream.reply, which are written before header is set, under c.mu, and not again until it is
	// false.
	header  bool
	data    [2][]byte // body bytes, in order; in the handler's memory unless owned is set
	owned   *buffer   // backs data[0] and the fields once the handler has returned
	end     bool      // END_STREAM follows data
	trailer []field
}

func (p *pendingReply) size() int { return len(p.data[0]) + len(p.data[1]) }

// needsWindow reports whether the next that is to be sent is DATA with a payload.
func (p *pendingReply) needsWindow() bool {
	return p.informational == 0 && !p.header && p.size() > 0
}

func (p *pendingReply) empty() bool {
	return !p.header && p.size() == 0 && !p.end && p.informational == 0
}

// run implements task: it runs the handler.
func (s *stream) run() {
	completed := false
	defer func() {
		if completed {
			return
		}
		// The handler has panicked or called runtime.Goexit, so the reply is incomplete.
		if v := recover(); v != nil && v != http.ErrAbortHandler {
			stack := make([]byte, 64<<10)
			stack = stack[:runtime.Stack(stack, false)]
			s.c.srv.logf("http: panic serving %v: %v\n%s", s.c.remoteAddr, v, stack)
		}
		s.reply.abandon()
		s.c.handlerPanicked(s)
		s.release()
	}()
	if s.reply.override != nil {
		s.reply.override(&s.reply, &s.req)
	} else {
		s.c.handler.ServeHTTP(&s.reply, &s.req)
	}
	completed = true
	flush := s.reply.finish()
	s.release()
	if flush {
		s.c.flush()
	}
}

// release frees what the request holds, after its handler has returned or if it never ran.
func (s *stream) release() {
	s.body.Close()
	s.ctx.cancel()
	if s.req.MultipartForm != nil {
		s.req.MultipartForm.RemoveAll()
	}
}

// interrupt ends the request's body and context, because its stream or connection has ended. c.mu
// is not held.
func (s *stream) interrupt(err error) {
	s.body.end(err, true)
	s.ctx.cancel()
}

// start hands the request to a worker. Called by the reader goroutine.
func (c *conn) start(s *stream) {
	s.started = true
	c.out.handlers.Add(1)
	if t := c.srv.http.ReadTimeout; t > 0 && s.req.Body != http.NoBody {
		s.body.setDeadline(time.Now().Add(t))
	}
	if t := c.srv.http.WriteTimeout; t > 0 {
		s.reply.SetWriteDeadline(time.Now().Add(t))
	}
	c.srv.workers.run(s)
}

// closeStream removes a stream from the connection. c.mu is held.
func (c *conn) closeStream(s *stream, how closeReason, err error) {
	if s.closed {
		return
	}
	s.closed, s.closeErr = true, err
	c.streams.close(s.id, how, c.live.now)
	c.out.ready.remove(s)
	if how == closedByEnd {
		c.resets.earn(1)
	}
	if s.out.owned != nil {
		c.srv.buffers.put(s.out.owned)
		s.reply.fields = nil // they are part of that buffer
	}
	s.out = pendingReply{}
	if s.writeTimer != nil {
		s.writeTimer.Stop()
	}
	s.notify()
	if s.handlerDone {
		c.freeSlot(s)
	}
}

// abandonUnstarted marks the handler of a stream as done although it never ran. c.mu is held.
func (c *conn) abandonUnstarted(s *stream) {
	if s.handlerDone {
		return
	}
	s.handlerDone = true
	if s.closed {
		c.freeSlot(s)
	}
}

// handlersPerStream is how many handlers may run for each stream that a connection may have open.
// Handlers of streams that were reset need a moment to notice and return.
const handlersPerStream = 4

// full reports whether there is no room for another stream. c.mu is held.
func (c *conn) full() bool {
	most := c.srv.cfg.MaxConcurrentStreams
	return uint32(len(c.streams.open)) >= most || uint64(c.active) >= handlersPerStream*uint64(most)
}

// freeSlot records that a stream and its handler have ended. c.mu is held.
func (c *conn) freeSlot(s *stream) {
	c.share.give(s.charged)
	c.active--
	if c.active == 0 {
		c.becameIdle()
	}
}

// notify wakes the handler if it waits in awaitTaken. c.mu is held.
func (s *stream) notify() {
	if s.wake != nil {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// resetStream sends RST_STREAM and closes the stream. c.mu is held. The caller must release it and
// then call s.interrupt.
func (c *conn) resetStream(s *stream, code http2.ErrCode, err error) {
	if s.closed {
		return
	}
	c.writeReset(s.id, code)
	c.closeStream(s, closedByUs, err)
	c.scheduleFlush()
}

// maxSurplus is how many bytes a client may still send of a request whose reply is complete before
// the stream is reset.
const maxSurplus = 64 << 10

// answered reports whether the reply is complete and the handler has returned while the client is
// still sending. c.mu is held.
func (s *stream) answered() bool { return s.sendEnd && s.handlerDone && !s.recvEnd }

// stopRequest asks the client to send no more of an answered request (RFC 9113 §8.1). c.mu is held.
func (c *conn) stopRequest(s *stream) { c.resetStream(s, http2.ErrCodeNo, errStreamReset) }

// handlerPanicked resets the stream of a handler that did not return.
func (c *conn) handlerPanicked(s *stream) {
	c.out.handlers.Add(-1)
	c.mu.Lock()
	defer c.mu.Unlock()
	s.handlerDone = true
	if s.closed {
		c.freeSlot(s)
		return
	}
	c.resetStream(s, http2.ErrCodeInternal, errHandlerDone)
}
