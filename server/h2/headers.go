package h2

import (
	"errors"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// headerBlock collects the fields of a HEADERS frame and its CONTINUATION frames. It belongs to the
// reader goroutine.
type headerBlock struct {
	id            uint32 // the stream, 0 between blocks
	endStream     bool
	selfDep       bool // priority depends on the stream itself
	continuations int  // how many so far
	bytes         int  // encoded bytes so far
	charged       int  // of the server's memory, while the block is under way
	room          int  // what is left of MaxHeaderBytes
	roomFields    int  // what is left of MaxHeaderFields
	tooLarge      bool
	typed         bool   // there was a content-type
	cookies       int    // bytes of fields that will be joined
	invalid       string // why the block is malformed, if it is
	headerFields
}

// headerFields is what a header block decodes to.
type headerFields struct {
	// Pseudo-header fields (RFC 9113 §8.3.1).
	method, scheme, authority, path string
	seen                            pseudoSet
	pseudo                          bool // there was a pseudo-header field
	fields                          []hpack.HeaderField
}

// copy makes f equal to other, in f's own array of fields.
func (f *headerFields) copy(other *headerFields) {
	fields := append(f.fields[:0], other.fields...)
	*f = *other
	f.fields = fields
}

// pseudoSet is the set of pseudo-header fields that a block had so far.
type pseudoSet uint8

const (
	sawMethod pseudoSet = 1 << iota
	sawScheme
	sawAuthority
	sawPath
)

func (b *headerBlock) begin(id uint32, endStream bool, cfg *Config) {
	clear(b.fields) // keep no strings of the last request
	*b = headerBlock{id: id, endStream: endStream, room: cfg.MaxHeaderBytes, roomFields: cfg.MaxHeaderFields,
		headerFields: headerFields{fields: b.fields[:0]}}
}

// size returns the size of the fields in memory, about. Cookies are joined to one field, so their
// bytes count twice.
func (b *headerBlock) size(cfg *Config) int {
	return cfg.MaxHeaderBytes - max(b.room, 0) + b.cookies
}

// add adds a field, for the HPACK decoder. Checks follow RFC 9113 §8.2 and §8.3.
func (b *headerBlock) add(f hpack.HeaderField) {
	if b.tooLarge {
		b.addType(f)
		return
	}
	if b.invalid != "" {
		return
	}
	b.room -= int(f.Size())
	b.roomFields--
	if b.room < 0 || b.roomFields < 0 {
		b.tooLarge = true
		b.addType(f)
		return
	}
	if !httpguts.ValidHeaderFieldValue(f.Value) {
		b.invalid = "field value has a forbidden character"
		return
	}
	if strings.HasPrefix(f.Name, ":") {
		b.addPseudo(f)
		return
	}
	if connectionSpecific(f.Name) {
		b.invalid = "connection-specific field"
		return
	}
	switch f.Name {
	case "content-type":
		b.typed = true
	case "cookie":
		b.cookies += len(f.Value)
	case "te":
		if f.Value != "trailers" && f.Value != "" {
			b.invalid = "TE other than trailers"
			return
		}
	}
	b.fields = append(b.fields, f)
}

// maxLateType is how long a Content-Type may be that is kept although the header list is too large.
const maxLateType = 100

// addType adds the first Content-Type of a header list that is too large, which tells HeaderTooLarge
// the protocol of the request. Some clients send it last.
func (b *headerBlock) addType(f hpack.HeaderField) {
	if f.Name != "content-type" || b.typed || len(f.Value) > maxLateType || !httpguts.ValidHeaderFieldValue(f.Value) {
		return
	}
	b.typed = true
	b.fields = append(b.fields, f)
}

func (b *headerBlock) addPseudo(f hpack.HeaderField) {
	b.pseudo = true
	if len(b.fields) > 0 {
		b.invalid = "pseudo-header field after a regular one"
		return
	}
	var bit pseudoSet
	switch f.Name {
	case ":method":
		bit, b.method = sawMethod, f.Value
	case ":scheme":
		bit, b.scheme = sawScheme, f.Value
	case ":authority":
		bit, b.authority = sawAuthority, f.Value
	case ":path":
		bit, b.path = sawPath, f.Value
	default:
		b.invalid = "unknown pseudo-header field"
		return
	}
	if b.seen&bit != 0 {
		b.invalid = "repeated pseudo-header field"
	}
	b.seen |= bit
}

// onHeaders begins a header block.
func (c *conn) onHeaders(fh http2.FrameHeader) error {
	if fh.StreamID == 0 {
		return protocolError("HEADERS on stream 0")
	}
	c.block.begin(fh.StreamID, fh.Flags.Has(http2.FlagHeadersEndStream), &c.srv.cfg)
	if err := c.checkBlockSize(fh); err != nil {
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
		c.block.selfDep = dep == fh.StreamID
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
	c.block.continuations++
	if c.block.continuations > c.srv.cfg.MaxContinuations {
		return connError{http2.ErrCodeEnhanceYourCalm, "too many CONTINUATION frames"}
	}
	if err := c.checkBlockSize(fh); err != nil {
		return err
	}
	p, err := c.in.peek(int(fh.Length))
	if err != nil {
		return err
	}
	defer c.in.discard(int(fh.Length))
	return c.onFragment(p, fh.Flags.Has(http2.FlagContinuationEndHeaders))
}

var errBlockTooLarge = connError{http2.ErrCodeEnhanceYourCalm, "header block is too large"}

// checkBlockSize returns an error if a block is longer than any that is worth decoding, or if there
// is no memory for it. A block that comes in one frame is decoded at once, and needs none: its fields
// are charged with its stream.
func (c *conn) checkBlockSize(fh http2.FrameHeader) error {
	b := &c.block
	if b.bytes += int(fh.Length); b.bytes > c.srv.cfg.maxBlock() {
		return errBlockTooLarge
	}
	if b.continuations == 0 && fh.Flags.Has(http2.FlagHeadersEndHeaders) {
		return nil
	}
	// The decoded fields, and what the decoder keeps of a string that has not ended.
	more := c.srv.cfg.MaxHeaderBytes + b.bytes - b.charged
	if !c.share.take(more) {
		return errMemory
	}
	b.charged += more
	return nil
}

// releaseBlock forgets a header block. It keeps no large array that one large request needed.
func (c *conn) releaseBlock() {
	b := &c.block
	b.id = 0
	if b.charged > 0 {
		c.share.give(b.charged)
		b.charged = 0
	}
	if cap(b.fields) > maxMemoFields {
		b.fields = nil
	}
}

// onFragment decodes a piece of a header block. Every block must be decoded, also that of a refused
// request, because all blocks of a connection share HPACK's state (RFC 9113 §4.3).
func (c *conn) onFragment(p []byte, last bool) error {
	if err := c.hdec.write(&c.block, p, last); err != nil {
		if errors.Is(err, hpack.ErrStringLength) {
			return errBlockTooLarge
		}
		return connError{http2.ErrCodeCompression, err.Error()}
	}
	if !last {
		return nil
	}
	err := c.onBlock(&c.block)
	c.releaseBlock()
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
	var trailer http.Header
	if s.body.announced != nil {
		trailer = make(http.Header, min(len(b.fields), fewFields))
		for _, f := range b.fields {
			if !validWireName(f.Name) {
				return streamError{b.id, http2.ErrCodeProtocol, "malformed field name"}
			}
			key := c.canonicalName(f.Name)
			if !httpguts.ValidTrailerHeader(key) {
				return streamError{b.id, http2.ErrCodeProtocol, "field is not allowed in trailers"}
			}
			trailer[key] = append(trailer[key], f.Value)
		}
	} else {
		for _, f := range b.fields {
			if !validWireName(f.Name) {
				return streamError{b.id, http2.ErrCodeProtocol, "malformed field name"}
			}
		}
	}
	c.endRequest(s, trailer)
	return nil
}
