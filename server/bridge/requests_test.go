package bridge

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"connectrpc.com/connect"
)

// charged is how much of the bound of requests is taken.
func charged(t *testing.T, m *memory) int64 {
	t.Helper()
	// What is free is found by taking it.
	low, high := int64(0), m.requestLimit
	for low < high {
		middle := (low + high + 1) / 2
		if m.requests.TryAcquire(middle) {
			m.requests.Release(middle)
			low = middle
		} else {
			high = middle - 1
		}
	}
	return m.requestLimit - low
}

func envelope(promised int, content []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(promised)), content...)
}

// A message of a stream is charged by what has arrived of it, twice since its buffer grows by doubling, and
// not by what its prefix promises. It is given back when the next one begins.
func TestAStreamOfRequestsIsChargedByWhatArrives(t *testing.T) {
	for name, pieces := range map[string]func(r io.Reader) io.Reader{
		"as a whole": func(r io.Reader) io.Reader { return r },
		"in halves":  iotest.HalfReader,
		"in bytes":   iotest.OneByteReader,
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory(4<<20, 4<<20)
			var sent bytes.Buffer
			body := &streamBody{ReadCloser: io.NopCloser(pieces(&sent)), memory: m}
			defer body.release()
			read := func(message []byte) {
				t.Helper()
				sent.Write(message)
				if _, err := io.ReadFull(body, make([]byte, len(message))); err != nil {
					t.Fatal(err)
				}
			}
			read(envelope(4<<30-1, make([]byte, 10)))
			if n := charged(t, m); n != 0 {
				t.Error("10 bytes of 4 GiB that are promised:", n)
			}
			read(make([]byte, smallMessage-10))
			if n := charged(t, m); n != 0 {
				t.Error("a small message:", n)
			}
			read(make([]byte, 1<<20))
			if n := charged(t, m); n < smallMessage+1<<20 || n > 2*(smallMessage+1<<20) {
				t.Error("1 MiB and 64 KiB have arrived:", n)
			}
			body.release()
			if n := charged(t, m); n != 0 {
				t.Error("at the end:", n)
			}
		})
	}
}

func TestTheNextRequestOfAStreamGivesTheLastOneBack(t *testing.T) {
	m := newMemory(4<<20, 4<<20)
	large := envelope(3<<20, make([]byte, 3<<20))
	small := envelope(1, []byte{1})
	sent := bytes.NewReader(bytes.Join([][]byte{large, small, large, large, small, small}, nil))
	body := &streamBody{ReadCloser: io.NopCloser(sent), memory: m}
	defer body.release()
	read := func(n int) {
		t.Helper()
		if _, err := io.ReadFull(body, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	read(len(large))
	if n := charged(t, m); n < 3<<20 {
		t.Error("a large message:", n)
	}
	read(1) // one byte of the next one's prefix
	if n := charged(t, m); n != 0 {
		t.Error("the next one has begun:", n)
	}
	read(len(small) - 1)
	for range 2 {
		read(len(large))
		if n := charged(t, m); n < 3<<20 || n > 6<<20 {
			t.Error("a large message after others:", n)
		}
	}
	read(2 * len(small))
	if n := charged(t, m); n != 0 {
		t.Error("after small ones:", n)
	}
}

// Streams whose messages are under way have one bound together. Beyond it a stream is refused, and the error
// says which bound that is.
func TestStreamsOfRequestsShareABound(t *testing.T) {
	m := newMemory(4<<20, 4<<20)
	var bodies []*streamBody
	defer func() {
		for _, b := range bodies {
			b.release()
		}
	}()
	var refused error
	for range 100 {
		partial := envelope(4<<20, make([]byte, 1<<20))
		b := &streamBody{ReadCloser: io.NopCloser(bytes.NewReader(partial)), memory: m}
		bodies = append(bodies, b)
		if _, refused = io.Copy(io.Discard, b); refused != nil {
			break
		}
	}
	var wire *connect.Error
	if !errors.As(refused, &wire) || wire.Code() != connect.CodeResourceExhausted ||
		wire.Message() != "the requests to this server need more than the 12 MiB that they may take up at a time (3 times --bridge-max-message, at least 12 MiB): call again later" {
		t.Error(refused)
	}
	if n := len(bodies); n < 6 || n > 13 {
		t.Errorf("the stream number %d of 1 MiB each was refused", n)
	}
	if n := charged(t, m); n > m.requestLimit {
		t.Error(n)
	}
	// A unary call waits for its room, until it ends.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := m.begin(ctx, nil)
	if err := c.request(ctx, 12<<20); !errors.Is(err, context.Canceled) {
		t.Error("a call without room:", err)
	}
	for _, b := range bodies {
		b.release()
	}
	if err := c.request(t.Context(), 12<<20); err != nil {
		t.Error("a call with room:", err)
	}
	c.leave()
	if n := charged(t, m); n != 0 {
		t.Error("at the end:", n)
	}
}
