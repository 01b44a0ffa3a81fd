package bridge

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"

	"example.com/roster/server/rpc"
)

// grpc-go takes the bytes of DATA frames of up to 1 KiB from no pool, so memory.Get does not see them. A
// message of 4 MiB that comes in such frames, and never ends, would be charged to nobody, and in frames of
// one byte it would take a hundred times its size. So a tap reads along on each connection, and charges the
// small frames of messages that are not complete.
//
// Complete messages are charged by the call that reads them. Those that no call reads are bounded by the
// window of the stream: see memory.sweep.

// smallFrame is about what grpc-go needs for a small frame besides its bytes.
const smallFrame = 64

// Of HTTP/2: RFC 9113 §3.4, §4.1 and §6.
const (
	prefaceBytes     = 24 // what a client sends before its first frame
	frameHeaderBytes = 9
	frameData        = 0x0
	frameHeaders     = 0x1
	frameReset       = 0x3
	frameSettings    = 0x4
	flagEndStream    = 0x1
	flagPadded       = 0x8
)

// tapped are credentials whose connections have a tap.
type tapped struct {
	credentials.TransportCredentials
	memory *memory
	failed func(error) // is told why a connection cannot be used; may be nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (c tapped) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, conn)
	if err != nil {
		if c.failed != nil {
			c.failed(aboutTLS(err))
		}
		return nil, nil, err
	}
	t := newTap(secured, c.memory)
	t.failed, t.secure = c.failed, c.Info().SecurityProtocol == "tls"
	return t, info, nil
}

// Clone implements credentials.TransportCredentials.
func (c tapped) Clone() credentials.TransportCredentials {
	return tapped{c.TransportCredentials.Clone(), c.memory, c.failed}
}

// A tap is a connection to an upstream. One goroutine reads it and one writes to it, as grpc-go does.
type tap struct {
	net.Conn
	memory *memory
	failed func(error) // is told why the server does not begin as one of HTTP/2; may be nil

	secure  bool         // with TLS
	begun   bool         // the server has sent a frame
	in      frames       // of the goroutine that reads
	current *tappedCalls // the stream of the DATA frame that is being read, nil if it has ended
	padding int          // bytes of that frame that are padding; -1 before their number has been read

	out frames // of the goroutine that writes

	mu      sync.Mutex
	streams map[uint32]*tappedCalls // that are open
	newest  uint32                  // the last that was opened
	closed  bool
}

// tappedCalls are the messages that come on one stream. Only charged is guarded by the lock of the tap.
type tappedCalls struct {
	prefix  [rpc.EnvelopeBytes]byte
	have    int   // bytes of prefix
	left    int64 // bytes of the current message that have not come
	charged int64 // for small frames of the current message
}

func newTap(conn net.Conn, memory *memory) *tap {
	return &tap{Conn: conn, memory: memory, streams: make(map[uint32]*tappedCalls), out: frames{left: prefaceBytes}}
}

// frames finds the frames in a sequence of bytes that comes in pieces.
type frames struct {
	header [frameHeaderBytes]byte
	have   int // bytes of header
	left   int // bytes of the current frame that have not come
}

// next takes bytes of a header from p, and reports whether it is complete.
func (f *frames) next(p []byte) (rest []byte, complete bool) {
	took := copy(f.header[f.have:], p)
	if f.have += took; f.have < len(f.header) {
		return nil, false
	}
	f.have, f.left = 0, f.length()
	return p[took:], true
}

func (f *frames) length() int        { return int(binary.BigEndian.Uint32(f.header[:]) >> 8) }
func (f *frames) kind() byte         { return f.header[3] }
func (f *frames) has(flag byte) bool { return f.header[4]&flag != 0 }
func (f *frames) stream() uint32     { return binary.BigEndian.Uint32(f.header[5:]) &^ (1 << 31) }

var errEarlyData = errors.New("the server sent a message on a stream that was not opened")

// Read implements net.Conn. It waits while the bound of memory is reached.
func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	defer func() {
		if !t.begun && err != nil && t.failed != nil {
			t.failed(aboutPreface(t.in.header[:t.in.have], t.secure, err))
		}
	}()
	for rest := p[:n]; len(rest) > 0; {
		if t.in.left == 0 {
			var complete bool
			if rest, complete = t.in.next(rest); !complete {
				break
			}
			if !t.began() {
				return 0, errEarlyData
			}
		} else {
			piece := rest[:min(t.in.left, len(rest))]
			rest = rest[len(piece):]
			t.payload(piece)
			t.in.left -= len(piece)
		}
		if t.in.left == 0 {
			t.ended()
		}
	}
	return n, err
}

// Write implements net.Conn.
func (t *tap) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if t.out.left > 0 {
			took := min(t.out.left, len(rest))
			rest = rest[took:]
			t.out.left -= took
			continue
		}
		var complete bool
		if rest, complete = t.out.next(rest); !complete {
			break
		}
		switch stream := t.out.stream(); t.out.kind() {
		case frameHeaders:
			t.mu.Lock()
			if stream > t.newest && !t.closed { // else they are trailers, which grpc-go does not send
				t.newest = stream
				t.streams[stream] = new(tappedCalls)
			}
			t.mu.Unlock()
		case frameReset:
			t.end(stream)
		}
	}
	return t.Conn.Write(p)
}

// Close implements net.Conn.
func (t *tap) Close() error {
	t.mu.Lock()
	var charged int64
	for _, s := range t.streams {
		charged += s.charged
		s.charged = 0
	}
	t.streams, t.closed = nil, true
	t.mu.Unlock()
	t.memory.discharge(charged)
	return t.Conn.Close()
}

// end forgets a stream. What it holds becomes garbage.
func (t *tap) end(stream uint32) {
	t.mu.Lock()
	var charged int64
	if s := t.streams[stream]; s != nil {
		charged, s.charged = s.charged, 0
	}
	delete(t.streams, stream)
	t.mu.Unlock()
	t.memory.discharge(charged)
}

// began looks at the header of a frame that has come. It returns false for a frame that no server may
// send: a DATA frame of a stream that was not opened yet, whose messages would not be found.
func (t *tap) began() bool {
	t.current = nil
	if !t.begun {
		t.begun = true
		if t.failed != nil && t.in.kind() != frameSettings { // RFC 9113 §3.4
			t.failed(aboutPreface(t.in.header[:], t.secure, nil))
		}
	}
	if t.in.kind() != frameData {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current = t.streams[t.in.stream()]
	t.padding = 0
	if t.in.has(flagPadded) {
		t.padding = -1
	}
	return t.in.stream() <= t.newest
}

// payload looks at a piece of a frame.
func (t *tap) payload(piece []byte) {
	if t.current == nil {
		return
	}
	left := t.in.left
	if t.padding < 0 {
		t.padding = int(piece[0])
		piece = piece[1:]
		left--
	}
	content := max(0, left-t.padding) // of what has not come, and of piece
	if t.current.take(piece[:min(len(piece), content)]) {
		t.mu.Lock()
		charged := t.current.charged
		t.current.charged = 0
		t.mu.Unlock()
		t.memory.discharge(charged)
	}
}

// take reads bytes of messages, and reports whether one has become complete for which something is charged.
func (s *tappedCalls) take(p []byte) (complete bool) {
	for len(p) > 0 {
		if s.left > 0 {
			took := min(s.left, int64(len(p)))
			p = p[took:]
			s.left -= took
		} else {
			took := copy(s.prefix[s.have:], p)
			p = p[took:]
			if s.have += took; s.have < len(s.prefix) {
				break
			}
			s.have, s.left = 0, int64(binary.BigEndian.Uint32(s.prefix[1:]))
		}
		complete = complete || s.left == 0 && s.have == 0
	}
	return complete
}

// ended looks at a frame all of which has come.
func (t *tap) ended() {
	stream, length := t.in.stream(), t.in.length()
	over := t.in.kind() == frameReset || (t.in.kind() == frameData || t.in.kind() == frameHeaders) && t.in.has(flagEndStream)
	if s := t.current; s != nil && !over && (s.left > 0 || s.have > 0) && mem.IsBelowBufferPoolingThreshold(length) {
		size := int64(length + smallFrame)
		t.memory.charge(size)
		t.mu.Lock()
		open := t.streams[stream] == s
		if open {
			s.charged += size
		}
		t.mu.Unlock()
		if !open {
			t.memory.discharge(size)
		}
	}
	t.current = nil
	if over {
		t.end(stream)
	}
}
