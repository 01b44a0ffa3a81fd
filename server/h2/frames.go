package h2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/net/http2"
)

// connError ends the connection with a GOAWAY (RFC 9113 §5.4.1).
type connError struct {
	code   http2.ErrCode
	reason string
}

func (e connError) Error() string { return fmt.Sprintf("h2: %v: %s", e.code, e.reason) }

// streamError resets one stream (RFC 9113 §5.4.2).
type streamError struct {
	id     uint32
	code   http2.ErrCode
	reason string
}

func (e streamError) Error() string {
	return fmt.Sprintf("h2: stream %d: %v: %s", e.id, e.code, e.reason)
}

var errMemory = connError{http2.ErrCodeEnhanceYourCalm, "no memory for a long frame or header block"}

func protocolError(reason string) error { return connError{http2.ErrCodeProtocol, reason} }

// readFrames reads and handles frames until the connection ends, and returns why.
func (c *conn) readFrames() error {
	for {
		c.atBoundary = !c.headers.underWay()
		if _, err := c.in.peek(frameHeaderLen); err != nil {
			return err
		}
		fh, err := c.framer.ReadFrameHeader()
		if err != nil {
			return c.frameError(err)
		}
		c.atBoundary = false
		if fh.Type == http2.FrameData {
			// The payload belongs to the stream. If it came with its nine bytes cut in two, that
			// makes no difference.
			c.atBoundary = true
			c.live.input.headerEnds()
		}
		err = c.onFrame(fh)
		if err != nil {
			if err = c.frameError(err); err != nil {
				return err
			}
		}
		if !c.headers.underWay() {
			c.live.input.headerEnds()
		}
	}
}

// frameError acts on an error of a single stream and returns nil, or returns the error that ends
// the connection.
func (c *conn) frameError(err error) error {
	switch e := err.(type) {
	case streamError:
		return c.onStreamError(e)
	case http2.StreamError:
		return c.onStreamError(streamError{e.StreamID, e.Code, "malformed frame"})
	case http2.ConnectionError:
		reason := "malformed frame"
		if detail := c.framer.ErrorDetail(); detail != nil {
			reason = detail.Error()
		}
		return connError{http2.ErrCode(e), reason}
	}
	if errors.Is(err, http2.ErrFrameTooLarge) {
		return connError{http2.ErrCodeFrameSize, "frame is larger than SETTINGS_MAX_FRAME_SIZE"}
	}
	return err
}

// onStreamError resets the stream and counts that against the peer's allowance of resets. On an idle
// stream, which must not be reset, it is an error of the connection (RFC 9113 §5.1, §6.4).
func (c *conn) onStreamError(e streamError) error {
	c.mu.Lock()
	if c.streams.idle(e.id) {
		c.mu.Unlock()
		return connError{e.code, e.reason + ", on an idle stream"}
	}
	s := c.streams.open[e.id]
	if !c.resets.take() {
		c.mu.Unlock()
		return connError{http2.ErrCodeEnhanceYourCalm, "too many streams had to be reset"}
	}
	if s == nil {
		if c.streams.closed.reason(e.id) != closedByUs {
			c.writeReset(e.id, e.code)
			c.streams.closed.add(e.id, closedByUs, c.live.now)
		}
		c.mu.Unlock()
		return nil
	}
	c.resetStream(s, e.code, errStreamReset)
	c.mu.Unlock()
	c.cleanUpClosed(s)
	return nil
}

// cleanUpClosed interrupts the handler of a stream that the reader goroutine has closed, or
// releases the stream if no handler has started.
func (c *conn) cleanUpClosed(s *stream) {
	s.interrupt(errStreamReset)
	if s.started {
		return
	}
	c.stopWaiting(s)
	c.mu.Lock()
	c.abandonUnstarted(s)
	c.mu.Unlock()
	s.release()
}

// stopWaiting removes s from the list of streams that wait for more of their request.
func (c *conn) stopWaiting(s *stream) {
	if i := slices.Index(c.waiting, s); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
	}
}

func (c *conn) onFrame(fh http2.FrameHeader) error {
	if !c.sawSetting && (fh.Type != http2.FrameSettings || fh.Flags.Has(http2.FlagSettingsAck)) {
		return protocolError("the first frame is not SETTINGS")
	}
	switch fh.Type {
	case http2.FrameData:
		return c.onData(fh)
	case http2.FrameHeaders:
		return c.onHeaders(fh)
	case http2.FrameContinuation:
		return c.onContinuation(fh)
	}
	if !c.chargeOverhead() {
		return connError{http2.ErrCodeEnhanceYourCalm, "too many frames that carry neither requests nor data"}
	}
	switch fh.Type {
	case http2.FrameSettings:
		if fh.Length > 6*maxSettings {
			return connError{http2.ErrCodeEnhanceYourCalm, "too many settings in one frame"}
		}
	case http2.FramePriority, http2.FrameRSTStream, http2.FramePing, http2.FrameWindowUpdate:
		if fh.Length > 64 {
			return connError{http2.ErrCodeFrameSize, "frame of fixed size is too long"}
		}
	case http2.FramePushPromise:
		return protocolError("client sent PUSH_PROMISE")
	case http2.FrameGoAway:
		if fh.StreamID != 0 || fh.Length < 8 {
			return protocolError("malformed GOAWAY")
		}
		payload, err := c.in.peek(8)
		if err != nil {
			return err
		}
		c.srv.stats.goAwaysReceived.add(http2.ErrCode(binary.BigEndian.Uint32(payload[4:])))
		if err := c.in.skip(int(fh.Length)); err != nil {
			return err
		}
		c.onGoAway()
		return nil
	default:
		// RFC 9113 §4.1: frames of unknown type are ignored.
		return c.in.skip(int(fh.Length))
	}
	f, err := c.framer.ReadFrameForHeader(fh)
	if err != nil {
		return err
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		return c.onSettings(f)
	case *http2.PingFrame:
		return c.onPing(f)
	case *http2.WindowUpdateFrame:
		return c.onWindowUpdate(f)
	case *http2.RSTStreamFrame:
		return c.onReset(f)
	case *http2.PriorityFrame:
		if f.StreamDep == f.StreamID {
			return streamError{f.StreamID, http2.ErrCodeProtocol, "stream depends on itself"}
		}
	}
	return nil
}

// onData appends body bytes to the stream's body as they arrive, without waiting for the end of the
// frame.
func (c *conn) onData(fh http2.FrameHeader) error {
	if fh.StreamID == 0 {
		return protocolError("DATA on stream 0")
	}
	length, pad := int(fh.Length), 0
	if fh.Flags.Has(http2.FlagDataPadded) {
		if length == 0 {
			return connError{http2.ErrCodeFrameSize, "DATA without its padding length"}
		}
		p, err := c.in.peek(1)
		if err != nil {
			return err
		}
		pad = int(p[0])
		c.in.discard(1)
		length -= 1 + pad
		if length < 0 {
			return protocolError("DATA padding is longer than the frame")
		}
	}
	end := fh.Flags.Has(http2.FlagDataEndStream)
	if length > 0 {
		c.overhead.earn(1)
	} else if !end && !c.chargeOverhead() {
		return connError{http2.ErrCodeEnhanceYourCalm, "too many empty DATA frames"}
	}

	s, err := c.takeWindow(fh)
	if err == nil && s != nil {
		err = s.checkLength(length, end)
	}
	if err != nil || s == nil {
		// RFC 9113 §6.9: dropped frames still count against the connection's window.
		if skipErr := c.in.skip(length + pad); skipErr != nil {
			return skipErr
		}
		c.credit(nil, int(fh.Length), false)
		return err
	}
	for left := length; left > 0; {
		p, err := c.in.peekSome(left)
		if err != nil {
			return err
		}
		dropped, err := s.body.append(p)
		c.credit(nil, dropped, false)
		c.in.discard(len(p))
		left -= len(p)
		if err != nil {
			if err := c.in.skip(left + pad); err != nil {
				return err
			}
			c.credit(nil, int(fh.Length)-length+left, false)
			return streamError{s.id, http2.ErrCodeEnhanceYourCalm, errBodyMemory.Error()}
		}
	}
	if overhead := int(fh.Length) - length; overhead > 0 {
		if err := c.in.skip(pad); err != nil {
			return err
		}
		c.credit(s, overhead, true)
	}
	if end {
		c.endRequest(s, nil)
	}
	return nil
}

// takeWindow charges a DATA frame to the windows and returns its stream, or nil if the bytes are to
// be dropped.
func (c *conn) takeWindow(fh http2.FrameHeader) (*stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := int64(fh.Length)
	if !c.flow.recv.take(n) {
		return nil, connError{http2.ErrCodeFlowControl, "DATA exceeds the connection's window"}
	}
	s := c.streams.open[fh.StreamID]
	if s == nil {
		return nil, c.lateFrame(fh)
	}
	if s.recvEnd {
		return nil, streamError{s.id, http2.ErrCodeStreamClosed, "DATA after END_STREAM"}
	}
	if !s.flow.recv.take(n) {
		return nil, streamError{s.id, http2.ErrCodeFlowControl, "DATA exceeds the stream's window"}
	}
	if s.answered() {
		if s.surplus += n; s.surplus > maxSurplus {
			c.stopRequest(s)
			return nil, nil
		}
		return s, nil
	}
	if n > 0 {
		s.moved += uint32(n)
		s.awaits100 = false
	}
	return s, nil
}

// lateFrame returns the error for HEADERS or DATA on a stream that is not open, or nil if the frame
// is to be ignored (RFC 9113 §5.1). c.mu is held.
func (c *conn) lateFrame(fh http2.FrameHeader) error {
	id := fh.StreamID
	if c.streams.idle(id) {
		return protocolError(fh.Type.String() + " on an idle stream")
	}
	reason := c.streams.closed.reason(id)
	switch reason {
	case closedByUs:
		return nil // sent before our reset arrived
	case closedByEnd:
		return connError{http2.ErrCodeStreamClosed, fh.Type.String() + " on a closed stream"}
	}
	if fh.Type == http2.FrameHeaders && reason == 0 {
		// RFC 9113 §5.1.1: a new stream's number is larger than all before it.
		return protocolError("stream numbers went down")
	}
	return streamError{id, http2.ErrCodeStreamClosed, fh.Type.String() + " on a closed stream"}
}

// checkLength compares the body with its Content-Length (RFC 9113 §8.1.1).
func (s *stream) checkLength(n int, end bool) error {
	s.received += int64(n)
	if s.declared < 0 {
		return nil
	}
	if s.received > s.declared || end && s.received < s.declared {
		return streamError{s.id, http2.ErrCodeProtocol, "request body does not match its Content-Length"}
	}
	return nil
}

// endRequest records that the request is complete, and starts its handler if it has not started.
func (c *conn) endRequest(s *stream, trailer map[string][]string) {
	s.body.trailer = trailer
	s.body.end(io.EOF, true)
	c.mu.Lock()
	s.recvEnd = true
	if s.sendEnd {
		c.closeStream(s, closedByEnd, errStreamReset)
	}
	c.mu.Unlock()
	if s.started {
		return
	}
	c.stopWaiting(s)
	c.start(s)
}
