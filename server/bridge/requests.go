package bridge

import (
	"encoding/binary"
	"io"

	"connectrpc.com/connect"

	"example.com/roster/server/rpc"
)

// streamBody is the body of a stream of requests. It charges the message that is being received, by what
// has arrived of it and not by what its prefix promises, which costs the caller nothing.
type streamBody struct {
	io.ReadCloser
	memory *memory

	prefix  [rpc.EnvelopeBytes]byte
	have    int   // bytes of prefix
	left    int64 // bytes of the current message that have not arrived
	arrived int64 // bytes of it that have
	charged int64
	full    *connect.Error // the memory of requests was
}

// Read implements io.Reader.
func (b *streamBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		if b.left == 0 {
			if b.have == 0 {
				b.release()
			}
			took := copy(b.prefix[b.have:], rest)
			rest = rest[took:]
			if b.have += took; b.have == len(b.prefix) {
				b.have, b.arrived, b.left = 0, 0, int64(binary.BigEndian.Uint32(b.prefix[1:]))
			}
			continue
		}
		took := min(b.left, int64(len(rest)))
		rest = rest[took:]
		b.left -= took
		b.arrived += took
		// The buffer grows by doubling.
		if more := 2*b.arrived - b.charged; b.arrived > smallMessage && b.charged < b.arrived {
			if !b.memory.requests.TryAcquire(more) {
				b.full = b.memory.requestsFull()
				return n, b.full
			}
			b.charged += more
		}
	}
	return n, err
}

// release gives back what is charged. It is called for each new message, and at the end.
func (b *streamBody) release() {
	if b.charged > 0 {
		b.memory.requests.Release(b.charged)
		b.charged = 0
	}
}

// received returns the error of a message that could not be received. Of one that is too long, Connect does
// not say which flag sets the limit.
func (m *method) received(c *call, err error) error {
	switch {
	case connect.CodeOf(err) != connect.CodeResourceExhausted:
		return err
	case c.body != nil && c.body.full != nil:
		return c.body.full
	}
	return m.upstream.config.requestPolicy().TooLong()
}
