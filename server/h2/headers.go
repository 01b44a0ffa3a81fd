package h2

import (
	"golang.org/x/net/http2"
)

// onHeaders begins a header block.
func (c *conn) onHeaders(fh http2.FrameHeader) error {
	if fh.StreamID == 0 {
		return protocolError("HEADERS on stream 0")
	}
	c.headers.begin(fh.StreamID, fh.Flags.Has(http2.FlagHeadersEndStream))
	if err := c.headers.reserve(int(fh.Length), fh.Flags.Has(http2.FlagHeadersEndHeaders)); err != nil {
		return err
	}
	p, err := c.in.peek(int(fh.Length))
	if err != nil {
		return err
	}
	defer c.in.discard(int(fh.Length))
	pad := 0
	if fh.Flags.Has(http2.FlagHeadersPadded) {
		if len(p) < 1 {
			return connError{http2.ErrCodeFrameSize, "HEADERS without its padding length"}
		}
		pad, p = int(p[0]), p[1:]
	}
	if fh.Flags.Has(http2.FlagHeadersPriority) {
		if len(p) < 5 {
			return connError{http2.ErrCodeFrameSize, "HEADERS without its priority"}
		}
		dep := uint32(p[0]&0x7f)<<24 | uint32(p[1])<<16 | uint32(p[2])<<8 | uint32(p[3])
		c.headers.block.selfDep = dep == fh.StreamID
		p = p[5:]
	}
	if pad > len(p) {
		return protocolError("HEADERS padding is longer than the frame")
	}
	return c.onFragment(p[:len(p)-pad], fh.Flags.Has(http2.FlagHeadersEndHeaders))
}

// onContinuation continues a header block. The Framer has checked that the frame belongs to the
// same stream.
func (c *conn) onContinuation(fh http2.FrameHeader) error {
	if err := c.headers.reserve(int(fh.Length), fh.Flags.Has(http2.FlagHeadersEndHeaders)); err != nil {
		return err
	}
	p, err := c.in.peek(int(fh.Length))
	if err != nil {
		return err
	}
	defer c.in.discard(int(fh.Length))
	return c.onFragment(p, fh.Flags.Has(http2.FlagContinuationEndHeaders))
}

// onFragment decodes a piece of a header block and, after the last, handles the block.
func (c *conn) onFragment(p []byte, last bool) error {
	if err := c.headers.decode(p, last); err != nil || !last {
		return err
	}
	err := c.onBlock(&c.headers.block)
	c.headers.end()
	return err
}

// onBlock handles a complete header block: a new request, or the trailers of an open one.
func (c *conn) onBlock(b *headerBlock) error {
	c.mu.Lock()
	s := c.streams.open[b.id]
	if s != nil {
		recvEnd := s.recvEnd
		c.mu.Unlock()
		if recvEnd {
			return streamError{b.id, http2.ErrCodeStreamClosed, "HEADERS after END_STREAM"}
		}
		return c.onTrailer(s, b)
	}
	if b.id%2 == 0 {
		c.mu.Unlock()
		return protocolError("client opened a stream with an even number")
	}
	if b.id <= c.streams.maxID {
		err := c.lateFrame(http2.FrameHeader{Type: http2.FrameHeaders, StreamID: b.id})
		c.mu.Unlock()
		if err == nil && !c.chargeOverhead() {
			return connError{http2.ErrCodeEnhanceYourCalm, "too many trailers of streams that were reset"}
		}
		return err
	}
	c.streams.maxID = b.id
	refused, full := c.closing.refuses(b.id), c.full()
	if refused {
		c.streams.closed.add(b.id, closedByUs, c.live.now) // its body and trailers are ignored too
	}
	c.mu.Unlock()

	switch {
	case refused:
		return nil // after the GOAWAY: the client knows that it is not processed (RFC 9113 §6.8)
	case full:
		return streamError{b.id, http2.ErrCodeRefusedStream, "too many concurrent streams"}
	case b.selfDep:
		return streamError{b.id, http2.ErrCodeProtocol, "stream depends on itself"}
	case b.invalid != "":
		return streamError{b.id, http2.ErrCodeProtocol, b.invalid}
	}
	return c.onRequest(b)
}

// onTrailer ends a request with trailers (RFC 9113 §8.1).
func (c *conn) onTrailer(s *stream, b *headerBlock) error {
	switch {
	case !b.endStream:
		return streamError{b.id, http2.ErrCodeProtocol, "trailers without END_STREAM"}
	case b.pseudo:
		return streamError{b.id, http2.ErrCodeProtocol, "pseudo-header field in trailers"}
	case b.invalid != "":
		return streamError{b.id, http2.ErrCodeProtocol, b.invalid}
	case b.tooLarge:
		return streamError{b.id, http2.ErrCodeEnhanceYourCalm, "trailers are too large"}
	}
	if err := s.checkLength(0, true); err != nil {
		return err
	}
	trailer, err := c.headers.trailer(s.body.announced != nil)
	if err != nil {
		return err
	}
	c.endRequest(s, trailer)
	return nil
}
