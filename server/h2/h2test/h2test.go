// Package h2test is an HTTP/2 client for tests and benchmarks of servers. It works frame by frame
// and sends what it is told to, whether or not the protocol allows that: it can attack a server, or
// leave a connection idle.
//
//	c := h2test.New(conn)
//	if err := c.Hello(); err != nil {
//		return err
//	}
//	id, err := c.Open(true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "example.com")
//
// It is no client for programs: it neither retries, nor times out, nor keeps to the server's
// limits.
package h2test

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frameSize is the largest frame that every server accepts (RFC 9113 §4.2).
const frameSize = 16 << 10

// Client is one connection. It is not safe for concurrent use, except that one goroutine may read
// frames while another writes them.
type Client struct {
	*http2.Framer
	// NextID is the id of the stream that Open opens next.
	NextID uint32

	rw      io.ReadWriter
	block   bytes.Buffer
	encoder *hpack.Encoder
}

// New returns a client on a connection on which nothing has been sent.
func New(rw io.ReadWriter) *Client {
	c := &Client{Framer: http2.NewFramer(rw, rw), NextID: 1, rw: rw}
	c.AllowIllegalWrites = true
	c.encoder = hpack.NewEncoder(&c.block)
	return c
}

// Hello sends the client's connection preface: the fixed bytes and SETTINGS (RFC 9113 §3.4).
func (c *Client) Hello(settings ...http2.Setting) error {
	if _, err := io.WriteString(c.rw, http2.ClientPreface); err != nil {
		return err
	}
	return c.WriteSettings(settings...)
}

// Flush sends what has been written, if the connection has a buffer for it.
func (c *Client) Flush() error {
	if buffered, ok := c.rw.(interface{ Flush() error }); ok {
		return buffered.Flush()
	}
	return nil
}

// Block encodes fields, given as name, value, name, value….
func (c *Client) Block(fields ...string) []byte {
	c.block.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		// Writing to a buffer cannot fail.
		_ = c.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(c.block.Bytes())
}

// Open sends the header fields of a request, in as many frames as they need, and returns the new
// stream's id. If end is true the request has no body.
func (c *Client) Open(end bool, fields ...string) (uint32, error) {
	id := c.NextID
	c.NextID += 2
	if id >= 1<<31 {
		return 0, errors.New("the connection has used all its stream ids")
	}
	block := c.Block(fields...)
	first := block[:min(len(block), frameSize)]
	rest := block[len(first):]
	err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndHeaders: len(rest) == 0, EndStream: end})
	for err == nil && len(rest) > 0 {
		part := rest[:min(len(rest), frameSize)]
		rest = rest[len(part):]
		err = c.WriteContinuation(id, len(rest) == 0, part)
	}
	return id, err
}

// Answer does what a well-behaved client does about a frame: it acknowledges SETTINGS and PING, and
// gives back the windows that DATA has used.
func (c *Client) Answer(f http2.Frame) (err error) {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			err = c.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			err = c.WritePing(true, f.Data)
		}
	case *http2.DataFrame:
		if n := f.Length; n > 0 {
			err = c.WriteWindowUpdate(0, n)
			if !f.StreamEnded() {
				err = errors.Join(err, c.WriteWindowUpdate(f.StreamID, n))
			}
		}
	}
	return err
}

// Wait reads and answers frames until done says that a frame is the one waited for. If the server
// resets a stream or ends the connection, Wait returns an error.
func (c *Client) Wait(done func(http2.Frame) bool) error {
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			// NO_ERROR only says that the server does not need the rest of the body (RFC 9113
			// §8.1).
			if f.ErrCode != http2.ErrCodeNo {
				return fmt.Errorf("the server reset stream %d: %v", f.StreamID, f.ErrCode)
			}
		case *http2.GoAwayFrame:
			return fmt.Errorf("the server ended the connection: %v %s", f.ErrCode, f.DebugData())
		}
		if err := c.Answer(f); err != nil {
			return err
		}
		if done(f) {
			return nil
		}
	}
}

// Ends reports whether a frame ends its stream.
func Ends(f http2.Frame) bool {
	h := f.Header()
	return h.Type == http2.FrameRSTStream ||
		(h.Type == http2.FrameHeaders || h.Type == http2.FrameData) && h.Flags.Has(http2.FlagDataEndStream)
}

// Call is the header fields of a gRPC call.
func Call(path string) []string {
	return []string{":method", "POST", ":scheme", "http", ":path", path, ":authority", "localhost",
		"content-type", "application/grpc", "te", "trailers", "user-agent", "h2test"}
}

// Pump makes calls of a path, width at a time, until more returns false and the last has ended. It
// calls ended for each, with true if the response had a body. Blocks are prepared and frames are
// written in batches, so that nearly all the CPU time goes to the server.
func (c *Client) Pump(width int, path string, body []byte, more func() bool, ended func(answered bool)) error {
	c.ReadMetaHeaders = nil
	c.SetReuseFrames()
	var out bytes.Buffer
	writer := http2.NewFramer(&out, nil)
	block, again := c.Block(Call(path)...), c.Block(Call(path)...)
	answered := make(map[uint32]bool)
	start := func() bool {
		if c.NextID >= 1<<31 || !more() {
			return false
		}
		answered[c.NextID] = false
		// Writing to a buffer cannot fail.
		_ = writer.WriteHeaders(http2.HeadersFrameParam{StreamID: c.NextID, BlockFragment: block, EndHeaders: true})
		_ = writer.WriteData(c.NextID, true, body)
		c.NextID += 2
		block = again
		return true
	}
	for range width {
		start()
	}
	received := uint32(0)
	for len(answered) > 0 {
		if out.Len() > 0 {
			if _, err := out.WriteTo(c.rw); err != nil {
				return err
			}
			if err := c.Flush(); err != nil {
				return err
			}
		}
		f, err := c.ReadFrame()
		if err != nil {
			return err
		}
		id := f.Header().StreamID
		if f.Header().Type == http2.FrameData {
			answered[id] = true
			if received += f.Header().Length; received > 32<<10 {
				_ = writer.WriteWindowUpdate(0, received)
				received = 0
			}
		}
		if id != 0 && Ends(f) {
			ended(answered[id])
			delete(answered, id)
			start()
		}
	}
	return nil
}
