package bridge

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"

	"golang.org/x/net/http2"
)

// wired is a connection whose server sends what is written to sent.
type wired struct {
	net.Conn
	sent io.Reader
}

func (c wired) Read(p []byte) (int, error)  { return c.sent.Read(p) }
func (c wired) Write(p []byte) (int, error) { return len(p), nil }
func (c wired) Close() error                { return nil }

// A tapTest is a tap with a server and a client whose frames it sees.
type tapTest struct {
	*testing.T
	tap            *tap
	server, client *http2.Framer
	sent, asked    bytes.Buffer
}

func newTapTest(t *testing.T, pieces func(io.Reader) io.Reader) *tapTest {
	tt := &tapTest{T: t}
	tt.tap = newTap(wired{sent: pieces(&tt.sent)}, newMemory(4<<20, 4<<20))
	tt.server, tt.client = http2.NewFramer(&tt.sent, nil), http2.NewFramer(&tt.asked, nil)
	tt.server.AllowIllegalWrites = true
	tt.asked.WriteString(http2.ClientPreface)
	_ = tt.client.WriteSettings()
	return tt
}

// open has the client open a stream.
func (tt *tapTest) open(stream uint32) {
	tt.Helper()
	_ = tt.client.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte{0x83}, EndHeaders: true})
	tt.flush()
}

func (tt *tapTest) flush() {
	tt.Helper()
	for piece := range bytes.SplitAfterSeq(tt.asked.Bytes(), []byte{0}) { // any pieces
		if _, err := tt.tap.Write(piece); err != nil {
			tt.Fatal(err)
		}
	}
	tt.asked.Reset()
}

// read reads what the server has sent.
func (tt *tapTest) read() {
	tt.Helper()
	if _, err := io.Copy(io.Discard, tt.tap); err != nil {
		tt.Fatal(err)
	}
}

func (tt *tapTest) charges(what string, least, most int64) {
	tt.Helper()
	tt.read()
	tt.tap.memory.mu.Lock()
	defer tt.tap.memory.mu.Unlock()
	if used := tt.tap.memory.used; used < least || used > most {
		tt.Errorf("%s: %d bytes are charged, want %d to %d", what, used, least, most)
	}
}

func (tt *tapTest) data(stream uint32, content []byte, size int) {
	for len(content) > 0 {
		n := min(size, len(content))
		_ = tt.server.WriteData(stream, false, content[:n])
		content = content[n:]
	}
}

func TestSmallFramesOfAnUnfinishedMessageAreCharged(t *testing.T) {
	for name, pieces := range map[string]func(io.Reader) io.Reader{
		"as a whole": func(r io.Reader) io.Reader { return r }, "in halves": iotest.HalfReader, "in bytes": iotest.OneByteReader,
	} {
		t.Run(name, func(t *testing.T) {
			tt := newTapTest(t, pieces)
			for stream := uint32(1); stream < 20; stream += 2 {
				tt.open(stream)
			}
			whole := envelope(10, make([]byte, 10))
			tt.data(1, bytes.Repeat(whole, 1000), 150)
			tt.charges("complete messages", 0, 0)
			tt.data(1, envelope(100_000, make([]byte, 50_000)), 1000)
			tt.charges("half of a message", 50_000, 60_000)
			tt.data(1, make([]byte, 50_000), 1000)
			tt.charges("the whole message", 0, 0)
			tt.data(1, envelope(100_000, make([]byte, 50_000)), 16<<10)
			tt.charges("half of a message in large frames, which memory.Get charges", 0, 1<<10+smallFrame)
			tt.data(1, make([]byte, 50_000), 16<<10)
			tt.charges("the whole of it", 0, 0)
			tt.data(1, append(envelope(10, make([]byte, 10)), 0, 0), 1000)
			tt.charges("two bytes of the next prefix", 2, 100)
			tt.data(1, envelope(0, nil)[2:], 1000)
			tt.charges("an empty message", 0, 0)
			tt.data(1, envelope(10_000, make([]byte, 1000)), 1)
			tt.charges("frames of a byte", 1000*smallFrame, 1100*(smallFrame+1))
			_ = tt.server.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndHeaders: true, EndStream: true})
			tt.charges("the server ends the stream with trailers", 0, 0)
			tt.data(1, envelope(10_000, make([]byte, 1000)), 100)
			tt.charges("it sends more on it", 0, 0)

			partial := func(stream uint32) { tt.data(stream, envelope(10_000, make([]byte, 1000)), 100) }
			partial(3)
			tt.charges("another stream", 1000, 2000)
			_ = tt.server.WriteRSTStream(3, http2.ErrCodeCancel)
			tt.charges("the server resets it", 0, 0)
			partial(5)
			_ = tt.server.WriteData(5, true, []byte{1})
			tt.charges("the server ends it with a frame", 0, 0)
			partial(7)
			tt.charges("another stream", 1000, 2000)
			_ = tt.client.WriteRSTStream(7, http2.ErrCodeCancel)
			tt.flush()
			tt.charges("the client resets it", 0, 0)
			partial(7)
			tt.charges("it sends more on it", 0, 0)
			for range 10 {
				_ = tt.server.WriteDataPadded(9, false, envelope(1, []byte{1}), make([]byte, 200))
			}
			tt.charges("complete messages with padding", 0, 0)
			_ = tt.server.WriteDataPadded(9, false, envelope(2, []byte{1}), make([]byte, 200))
			tt.charges("a part of a message with padding", 200, 400)
			partial(11)
			if err := tt.tap.Close(); err != nil {
				t.Fatal(err)
			}
			tt.tap.memory.mu.Lock()
			defer tt.tap.memory.mu.Unlock()
			if tt.tap.memory.used != 0 {
				t.Error("the connection is closed:", tt.tap.memory.used)
			}
		})
	}
}

// A server that sends on a stream before it is opened would have its messages counted wrongly.
func TestDataOfAStreamThatIsNotOpenIsRefused(t *testing.T) {
	tt := newTapTest(t, func(r io.Reader) io.Reader { return r })
	tt.open(1)
	tt.data(3, envelope(10, nil), 100)
	if _, err := io.Copy(io.Discard, tt.tap); !errors.Is(err, errEarlyData) {
		t.Error(err)
	}
}
