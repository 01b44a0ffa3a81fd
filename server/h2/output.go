package h2

import (
	"encoding/binary"
	"runtime"

	"golang.org/x/net/http2"
)

const (
	frameHeaderLen = 9

	// sliceSize is the size of the largest DATA frame that is sent, and how many bytes a stream may
	// add at a time while others wait. Every peer must accept frames of this size (RFC 9113
	// §6.5.2).
	sliceSize = minFrameSize

	// worthwhileData is the size from which a DATA frame that is sent earns overhead tokens, since
	// it may make the peer send a PING and a WINDOW_UPDATE. Smaller frames are usually the fault of
	// a peer that gives tiny windows.
	worthwhileData = 5
)

// frameSink lets the Framer write control frames into the output buffer. c.mu is held.
type frameSink conn

func (f *frameSink) Write(p []byte) (int, error) {
	c := (*conn)(f)
	b := c.output()
	b.b = append(b.b, p...)
	c.share.chargeBuffer(b)
	return len(p), nil
}

// output returns the buffer that collects frames. c.mu is held.
func (c *conn) output() *buffer {
	if c.out == nil {
		c.out = c.srv.buffers.get(smallBuffer)
	}
	return c.out
}

// reserve returns the output buffer with room for n more bytes. It grows by moving to a larger
// pooled buffer; append would allocate a new array for each size on the way. c.mu is held.
func (c *conn) reserve(n int) *buffer {
	b := c.output()
	if n += len(b.b); n <= cap(b.b) || n > hugeBuffer {
		return b
	}
	size := largeBuffer
	if n > largeBuffer {
		size = hugeBuffer
	}
	c.out = c.srv.buffers.get(size)
	c.share.chargeBuffer(c.out)
	c.out.b = append(c.out.b, b.b...)
	c.srv.buffers.put(b)
	return c.out
}

// room returns how many more bytes of replies may be added to the output buffer. If the server is
// short of memory, a small buffer has to do. c.mu is held.
func (c *conn) room() int {
	most := c.srv.cfg.OutputBuffer
	if !c.share.allows(hugeBuffer) {
		most = min(most, smallBuffer-maxShortHeader)
	}
	if c.out == nil {
		return most
	}
	return most - len(c.out.b)
}

// maxShortHeader is about how long the header of a reply is, which has to fit a small buffer too.
const maxShortHeader = 512

// slice returns how many bytes of one stream may be added at a time. c.mu is held.
func (c *conn) slice() int {
	if !c.share.allows(hugeBuffer) {
		return max(c.room(), 1)
	}
	return sliceSize
}

func appendFrameHeader(dst []byte, n int, t http2.FrameType, flags http2.Flags, id uint32) []byte {
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags))
	return binary.BigEndian.AppendUint32(dst, id)
}

func (c *conn) writeReset(id uint32, code http2.ErrCode) {
	c.framer.WriteRSTStream(id, code)
	c.srv.stats.resetsSent.add(code)
	c.control++
}

// writeHeaders appends a header block, as HEADERS and as many CONTINUATION frames as it needs (RFC
// 9113 §6.10). c.mu is held.
func (c *conn) writeHeaders(id uint32, status int, fields []field, length int64, end bool) {
	b := c.output()
	start := len(b.b)
	b.b = appendFrameHeader(b.b, 0, http2.FrameHeaders, 0, id)
	b.b = c.henc.appendBlock(b.b, status, fields, length)
	c.share.chargeBuffer(b)
	var flags http2.Flags
	if end {
		flags = http2.FlagHeadersEndStream
	}
	n := len(b.b) - start - frameHeaderLen
	if n <= minFrameSize {
		setFrameHeader(b.b[start:], n, flags|http2.FlagHeadersEndHeaders)
		return
	}
	// This is rare, so it may copy: the first frame stays in its place and the rest is appended
	// again.
	rest := append([]byte(nil), b.b[start+frameHeaderLen+minFrameSize:]...)
	b.b = b.b[:start+frameHeaderLen+minFrameSize]
	setFrameHeader(b.b[start:], minFrameSize, flags)
	for len(rest) > 0 {
		n := min(len(rest), minFrameSize)
		flags = 0
		if n == len(rest) {
			flags = http2.FlagContinuationEndHeaders
		}
		b.b = appendFrameHeader(b.b, n, http2.FrameContinuation, flags, id)
		b.b = append(b.b, rest[:n]...)
		rest = rest[n:]
	}
}

func setFrameHeader(frame []byte, n int, flags http2.Flags) {
	frame[0], frame[1], frame[2], frame[4] = byte(n>>16), byte(n>>8), byte(n), byte(flags)
}

// emit moves up to budget bytes of the stream's reply body into the output buffer, with the headers
// before them and the trailers after them. c.mu is held.
func (c *conn) emit(s *stream, budget int) {
	p := &s.out
	if p.informational != 0 {
		c.writeHeaders(s.id, p.informational, p.informationalFields, -1, false)
		p.informational, p.informationalFields = 0, nil
	}
	if p.header {
		s.moved += minProgress
		end := p.end && p.size() == 0 && len(p.trailer) == 0
		c.writeHeaders(s.id, s.reply.status, s.reply.fields, s.reply.length, end)
		p.header, s.sentHeader, s.awaits100 = false, true, false
		if end {
			c.sentEnd(s)
			return
		}
	}
	for p.size() > 0 {
		n := min(int64(p.size()), int64(budget), sliceSize, s.sendWindow, c.sendWindow)
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
		c.writeHeaders(s.id, 0, p.trailer, -1, true)
	default:
		c.writeData(s, 0, true)
	}
	c.sentEnd(s)
}

// writeData appends a DATA frame with the next n bytes of the reply. c.mu is held.
func (c *conn) writeData(s *stream, n int, end bool) {
	var flags http2.Flags
	if end {
		flags = http2.FlagDataEndStream
	}
	s.moved += uint32(n)
	c.moved += uint32(n)
	s.sendWindow -= int64(n)
	c.sendWindow -= int64(n)
	if n >= worthwhileData {
		// Some clients send a WINDOW_UPDATE for every few KiB.
		c.earned = min(c.earned+2+n/1024, c.srv.cfg.OverheadBurst)
	}
	b := c.reserve(n + frameHeaderLen)
	b.b = appendFrameHeader(b.b, n, http2.FrameData, flags, s.id)
	data := &s.out.data
	k := min(n, len(data[0]))
	b.b = append(b.b, data[0][:k]...)
	b.b = append(b.b, data[1][:n-k]...)
	data[0], data[1] = data[0][k:], data[1][n-k:]
}

// sentEnd records that END_STREAM was sent. c.mu is held.
//
// The client may still be sending the request, although the reply is complete. Usually little is
// left, so it is read, checked and dropped, since some clients would take a reset for a failure. If
// more than maxSurplus bytes follow, the stream is reset.
func (c *conn) sentEnd(s *stream) {
	s.sendEnd = true
	s.out.end, s.out.trailer = false, nil
	if s.writeTimer != nil {
		s.writeTimer.Stop()
	}
	switch {
	case s.recvEnd:
		c.closeStream(s, closedByEnd, errStreamReset)
	default:
		s.notify()
	}
}

// submit moves s.out into the output buffer as far as windows and room allow, and queues the rest.
// If other streams are waiting, s is queued behind them. c.mu is held.
func (c *conn) submit(s *stream) {
	if room := c.room(); c.ready.n == 0 && room > 0 {
		c.emit(s, max(room, c.slice()))
	}
	c.enqueue(s)
}

// readyQueue is a list of streams that have something to send.
type readyQueue struct {
	head, tail *stream
	n          int
}

// enqueue adds s to the end of the queue if it has output that its window allows. c.mu is held.
func (c *conn) enqueue(s *stream) {
	if s.queued || s.closed || s.out.empty() || s.sendWindow <= 0 && s.out.needsWindow() {
		return
	}
	s.queued = true
	if c.ready.tail == nil {
		c.ready.head = s
	} else {
		c.ready.tail.nextReady = s
	}
	c.ready.tail = s
	c.ready.n++
}

func (c *conn) dequeue() *stream {
	s := c.ready.head
	c.ready.head = s.nextReady
	if c.ready.head == nil {
		c.ready.tail = nil
	}
	c.ready.n--
	s.nextReady, s.queued = nil, false
	return s
}

// unqueue removes a closed stream from the queue. Otherwise a peer could fill the queue with
// streams that it has reset. c.mu is held.
func (c *conn) unqueue(s *stream) {
	if !s.queued {
		return
	}
	var before *stream
	for q := c.ready.head; q != s; q = q.nextReady {
		before = q
	}
	if before == nil {
		c.ready.head = s.nextReady
	} else {
		before.nextReady = s.nextReady
	}
	if c.ready.tail == s {
		c.ready.tail = before
	}
	c.ready.n--
	s.nextReady, s.queued = nil, false
}

// fill fills the output buffer with up to sliceSize bytes of each waiting stream in turn. c.mu is
// held.
func (c *conn) fill() {
	for {
		progress := false
		for n := c.ready.n; n > 0 && c.room() > 0; n-- {
			s := c.dequeue()
			if s.closed {
				continue
			}
			before := c.room()
			c.emit(s, c.slice())
			progress = progress || c.room() < before
			c.enqueue(s)
		}
		if !progress || c.ready.n == 0 || c.room() <= 0 {
			return
		}
	}
}

// scheduleFlush has the output written: by the goroutine that is writing already, or else by a
// worker. c.mu is held.
func (c *conn) scheduleFlush() {
	if c.flushing || c.dead {
		return
	}
	c.flushing = true // before fill, which may end the last stream and so call scheduleFlush again (becameIdle)
	if c.ready.n > 0 {
		c.fill()
	}
	if c.flushing = c.hasOutput() || c.closing.due(); c.flushing {
		c.flushDue = true
		c.srv.workers.run((*flusher)(c))
	}
}

// hasOutput reports whether there is something to write. After the half-close nothing may be
// written: the attempt would fail and close the whole connection, and the peer could lose what it
// has not read yet.
func (c *conn) hasOutput() bool {
	return c.out != nil && len(c.out.b) > 0 && !c.closing.halfClosed
}

// flusher is the task of writing a connection's output.
type flusher conn

func (f *flusher) run() {
	c := (*conn)(f)
	c.yield()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flushDue {
		c.flushDue = false
		c.flushLocked()
	}
}

// takeFlush reports whether the caller, a handler's goroutine that has nothing else to do, should
// write the output: no goroutine is writing it, or a worker that was started for it has not begun.
// If so, the caller must call flush. c.mu is held.
func (c *conn) takeFlush() bool {
	switch {
	case c.dead || !c.hasOutput():
		return false
	case !c.flushing:
		c.flushing = true
		return true
	case c.flushDue && c.running.Load() == 0:
		c.flushDue = false
		return true
	}
	return false
}

// flush writes output until there is none. Only a caller for which takeFlush returned true may call
// it.
func (c *conn) flush() {
	c.yield()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushLocked()
}

// yield lets other handlers of the connection run first, so that their replies are written by the
// same system call. When processors are busy, they need more than one turn. After yieldTurns it
// waits no longer.
func (c *conn) yield() {
	for i := 0; i < yieldTurns && c.running.Load() > 0; i++ {
		runtime.Gosched()
	}
}

const yieldTurns = 3

// flushLocked writes output until there is none. c.mu is held, though not during system calls, and
// c.flushing is set.
func (c *conn) flushLocked() {
	for !c.dead {
		if c.ready.n > 0 {
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
		b := c.out
		c.out, c.spare = c.spare, nil
		c.control = 0
		c.timer.wake(c)
		c.live.writeBegins()
		c.mu.Unlock()
		_, err := c.nc.Write(b.b)
		c.mu.Lock()
		c.live.writeEnds(len(b.b))
		b.b = b.b[:0]
		c.spare = b
		if err != nil {
			c.fail()
		}
	}
	c.flushing = false
	if c.dead || c.active == 0 {
		c.releaseOutput()
		return
	}
	// An open stream without output needs no more than a small buffer.
	for _, b := range []**buffer{&c.out, &c.spare} {
		if *b != nil && len((*b).b) == 0 && cap((*b).b) > smallBuffer {
			c.srv.buffers.put(*b)
			*b = nil
		}
	}
}

// releaseOutput returns the output buffers to their pool. c.mu is held, and no goroutine is
// writing.
func (c *conn) releaseOutput() {
	c.srv.buffers.put(c.out)
	c.srv.buffers.put(c.spare)
	c.out, c.spare = nil, nil
}
