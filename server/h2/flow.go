package h2

import "sync/atomic"

// window is how many bytes of DATA may still go one way, on a stream or a connection (RFC 9113 §6.9).
// It is negative if the peer has made its initial window smaller than what was sent (§6.9.2).
type window int64

// take takes n bytes. It reports false, and takes nothing, if the window has not as many.
func (w *window) take(n int64) bool {
	if n > int64(*w) {
		return false
	}
	*w -= window(n)
	return true
}

// grow adds n bytes, or takes them if n is negative. It reports false if the window is larger then
// than the protocol allows (RFC 9113 §6.9.1).
func (w *window) grow(n int64) bool {
	*w += window(n)
	return *w <= maxWindow
}

// closed reports whether nothing may be sent.
func (w window) closed() bool { return w <= 0 }

// connFlow is the flow control of a connection. It is guarded by conn.mu, apart from consumed.
//
// Every byte of the receive window is in one of three places: the peer may send it, or it has come
// and waits in a body for its handler, or it was consumed and is to be returned. So all bodies
// together never hold more than the window. Bytes that were consumed are returned in steps of a
// quarter, to save WINDOW_UPDATE frames.
type connFlow struct {
	consumed atomic.Int64 // bytes to be returned

	send    window
	recv    window
	size    int32 // of the receive window
	initial int32 // SETTINGS_INITIAL_WINDOW_SIZE of the peer
}

func (f *connFlow) init(size int32) {
	f.send, f.initial = initialWindow, initialWindow
	f.recv, f.size = window(size), size
}

// consume records that n bytes were consumed, and reports whether a step is due. conn.mu need not be
// held.
func (f *connFlow) consume(n int) (due bool) {
	return f.consumed.Add(int64(n)) >= int64(f.size)/4
}

// update returns the increment of a WINDOW_UPDATE frame that is to be sent, or 0 if no step is due.
func (f *connFlow) update() (increment uint32) {
	n := f.consumed.Load()
	if n < int64(f.size)/4 {
		return 0
	}
	f.consumed.Add(-n)
	f.recv += window(n)
	return uint32(n)
}

// setInitial applies SETTINGS_INITIAL_WINDOW_SIZE of the peer, which is at most maxWindow. It returns
// by how much the send windows of all streams change.
func (f *connFlow) setInitial(n uint32) (change int64) {
	change = int64(n) - int64(f.initial)
	f.initial = int32(n)
	return change
}

// open returns the flow control of a new stream with a receive window of the given size.
func (f *connFlow) open(size int32) streamFlow {
	return streamFlow{send: window(f.initial), recv: window(size), size: size}
}

// streamFlow is the flow control of a stream. What connFlow says of its receive window is true of
// this one too. It is guarded by conn.mu.
type streamFlow struct {
	send     window
	recv     window
	consumed int32 // bytes to be returned
	size     int32 // of the receive window
}

// consume records that n bytes were consumed, and returns the increment of a WINDOW_UPDATE frame that
// is to be sent, or 0 if no step is due.
func (f *streamFlow) consume(n int) (increment uint32) {
	f.consumed += int32(n)
	if f.consumed < f.size/4 {
		return 0
	}
	increment, f.consumed = uint32(f.consumed), 0
	f.recv += window(increment)
	return increment
}

// credit records that n bytes of request bodies were consumed, and returns them to the peer when a
// step is due: to the connection's window and, with toStream, to that of s. It takes the connection's
// lock only for that or if toStream is set.
func (c *conn) credit(s *stream, n int, toStream bool) {
	if n == 0 {
		return
	}
	due := c.flow.consume(n)
	if !due && !toStream {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return
	}
	wrote := false
	if increment := c.flow.update(); increment > 0 {
		c.framer.WriteWindowUpdate(0, increment)
		wrote = true
	}
	if toStream && !s.closed && !s.recvEnd {
		if increment := s.flow.consume(n); increment > 0 {
			c.framer.WriteWindowUpdate(s.id, increment)
			s.moved += minProgress // the peer may have waited for it
			wrote = true
		}
	}
	if wrote {
		c.scheduleFlush()
	}
}
