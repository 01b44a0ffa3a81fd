// Package rawh2 is an HTTP/2 client that does as it is told and no more: it
// opens connections that idle, and those that attack.
package rawh2

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Conn is one connection. It is not safe for concurrent use, but that one
// goroutine may read while another writes.
type Conn struct {
	net.Conn
	*http2.Framer

	out    *bufio.Writer
	header bytes.Buffer
	hpack  *hpack.Encoder
	next   uint32 // the next stream's id
}

// Dial connects, from an address of this machine if one is given, without a
// word of HTTP/2.
func Dial(ctx context.Context, addr string, from net.IP) (*Conn, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	if from != nil {
		dialer.LocalAddr = &net.TCPAddr{IP: from}
	}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: conn, out: bufio.NewWriterSize(conn, 16<<10), next: 1}
	c.Framer = http2.NewFramer(c.out, bufio.NewReaderSize(conn, 4<<10))
	c.AllowIllegalWrites = true
	c.hpack = hpack.NewEncoder(&c.header)
	return c, nil
}

// Hello sends the preface and settings.
func (c *Conn) Hello(settings ...http2.Setting) error {
	if _, err := c.out.WriteString(http2.ClientPreface); err != nil {
		return err
	}
	if err := c.WriteSettings(settings...); err != nil {
		return err
	}
	return c.out.Flush()
}

// Flush sends what has been written.
func (c *Conn) Flush() error { return c.out.Flush() }

// Fields encodes the header of a call of path, and more.
func (c *Conn) Fields(path string, more ...hpack.HeaderField) []byte {
	c.header.Reset()
	for _, field := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: path},
		{Name: ":authority", Value: "roster"},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
	}, more...) {
		// Writing to a buffer does not fail.
		_ = c.hpack.WriteField(field)
	}
	return c.header.Bytes()
}

// Open sends the header of a call and returns its stream. With end the request
// has no body.
func (c *Conn) Open(path string, end bool) (uint32, error) {
	id := c.next
	c.next += 2
	if id >= 1<<31 {
		return 0, errors.New("out of stream ids")
	}
	return id, c.WriteHeaders(http2.HeadersFrameParam{
		StreamID:      id,
		BlockFragment: c.Fields(path),
		EndHeaders:    true,
		EndStream:     end,
	})
}

// Call makes one call and reads until its answer has ended.
func (c *Conn) Call(path string, body []byte) error {
	id, err := c.Open(path, false)
	if err != nil {
		return err
	}
	if err := c.WriteData(id, true, body); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return err
	}
	return c.readUntil(func(frame http2.Frame) bool {
		return frame.Header().StreamID == id && frame.Header().Flags.Has(http2.FlagHeadersEndStream) &&
			(frame.Header().Type == http2.FrameHeaders || frame.Header().Type == http2.FrameData)
	})
}

// Ping asks whether the server is there and waits for the answer.
func (c *Conn) Ping() error {
	if err := c.WritePing(false, [8]byte{'r', 'o', 's', 't', 'e', 'r'}); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return err
	}
	return c.readUntil(func(frame http2.Frame) bool {
		ping, ok := frame.(*http2.PingFrame)
		return ok && ping.IsAck()
	})
}

// readUntil reads and answers what must be answered until a frame is the one
// waited for. A reset or GOAWAY is an error.
func (c *Conn) readUntil(done func(http2.Frame) bool) error {
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			return err
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = c.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				err = c.WritePing(true, frame.Data)
			}
		case *http2.RSTStreamFrame:
			// NO_ERROR only says that the rest of a body is not wanted (RFC 9113
			// §8.1).
			if frame.ErrCode != http2.ErrCodeNo {
				err = fmt.Errorf("the server reset stream %d: %v", frame.StreamID, frame.ErrCode)
			}
		case *http2.GoAwayFrame:
			err = fmt.Errorf("the server ended the connection: %v %s", frame.ErrCode, frame.DebugData())
		}
		if err != nil {
			return err
		}
		if err := c.Flush(); err != nil {
			return err
		}
		if done(frame) {
			return nil
		}
	}
}
