package h2

import (
	"encoding/binary"
	"runtime"
	"sync/atomic"

	"golang.org/x/net/http2"
)

const (
	frameHeaderLen = 9

	// sliceSize is the size of the largest DATA frame that is sent, and how many bytes a stream may
	// add at a time while others wait. Every peer must accept frames of this size (RFC 9113
	// §6.5.2).
	sliceSize = minFrameSize
)

// output collects the frames that a connection sends, and knows which goroutine writes them to the
// socket. It is guarded by conn.mu, apart from handlers.
type output struct {
	// handlers is the number of handlers that are running, and so may add frames soon. It is beside
	// fields that never change: beside the others, each of its changes would slow down whoever holds
	// conn.mu.
	handlers atomic.Int32

	pools *bufferPools
	share *share // of the server's memory
	cfg   *Config

	frames  *buffer // what is to be written; nil if there is nothing and there has been no need for one
	spare   *buffer // collects frames while the others are being written
	written *buffer // what is being written, in the state outputWriting
	control int32   // answers to control frames in frames
	state   outputState
	ready   readyQueue // streams whose replies did not fit into frames
}

// outputState says which goroutine writes the output, so that never two of them do. That goroutine
// owns the output. These are all transitions, and the methods of output that make them:
//
//	idle    → claimed   claim, claimForHandler   a goroutine becomes the owner
//	claimed → idle      rest                     the owner has nothing more to write
//	claimed → due       handOver                 the owner has a worker write instead of itself
//	due     → claimed   takeOver                 that worker begins
//	                    claimForHandler          or a handler's goroutine was faster
//	claimed → writing   beginWrite               the owner is in the system call; conn.mu is free
//	writing → claimed   endWrite
//
// The owner goes on until nothing is left, so frames that are added in any state but idle will be
// written. A connection that has failed takes the same way back to idle, where its buffers are
// returned.
type outputState uint8

const (
	outputIdle outputState = iota
	outputDue
	outputClaimed
	outputWriting
)

func (s outputState) String() string {
	return [...]string{"idle", "due", "claimed", "writing"}[s]
}

func (o *output) init(pools *bufferPools, share *share, cfg *Config) {
	o.pools, o.share, o.cfg = pools, share, cfg
}

// move makes a transition that only the owner may make.
func (o *output) move(from, to outputState) {
	if o.state != from {
		o.state.mustBe(from)
	}
	o.state = to
}

func (s outputState) mustBe(want outputState) {
	panic("h2: the output is " + s.String() + ", not " + want.String())
}

// claim makes the caller the owner if nobody is. An owner either calls rest in the end or hands the
// output over to another owner.
func (o *output) claim() bool {
	if o.state != outputIdle {
		return false
	}
	o.state = outputClaimed
	return true
}

// claimForHandler makes the caller, a handler's goroutine that has nothing else to do, the owner if
// nobody is, or if the owner is a worker that has not begun and no handler is running that could
// add frames to the same write.
func (o *output) claimForHandler() bool {
	return o.claim() || o.handlers.Load() == 0 && o.takeOver()
}

// handOver leaves the output to a worker, which calls takeOver.
func (o *output) handOver() { o.move(outputClaimed, outputDue) }

// takeOver makes the caller the owner if the output was handed over and nobody has taken it.
func (o *output) takeOver() bool {
	if o.state != outputDue {
		return false
	}
	o.state = outputClaimed
	return true
}

// beginWrite returns what the owner is to write while conn.mu is not held. Frames that are added
// meanwhile go to another buffer.
func (o *output) beginWrite() []byte {
	o.move(outputClaimed, outputWriting)
	o.written, o.frames, o.spare = o.frames, o.spare, nil
	o.control = 0
	return o.written.b
}

// endWrite records that the write has ended.
func (o *output) endWrite() {
	o.move(outputWriting, outputClaimed)
	o.written.b = o.written.b[:0]
	o.spare, o.written = o.written, nil
}

// rest records that the owner has nothing more to write. With keep, the buffers are kept for the
// next frames, as long as they are small; an open stream without output needs no more.
func (o *output) rest(keep bool) {
	o.move(outputClaimed, outputIdle)
	if !keep {
		o.release()
		return
	}
	for _, b := range []**buffer{&o.frames, &o.spare} {
		if *b != nil && len((*b).b) == 0 && cap((*b).b) > smallBuffer {
			o.pools.put(*b)
			*b = nil
		}
	}
}

// release returns the buffers to their pool, unless there is an owner, who will do so.
func (o *output) release() {
	if o.state != outputIdle {
		return
	}
	o.pools.put(o.frames)
	o.pools.put(o.spare)
	o.frames, o.spare = nil, nil
}

// yield lets the handlers of the connection run first, so that their replies are written by the same
// system call. When processors are busy, they need more than one turn. After yieldTurns it waits no
// longer. conn.mu is not held.
func (o *output) yield() {
	for i := 0; i < yieldTurns && o.handlers.Load() > 0; i++ {
		runtime.Gosched()
	}
}

const yieldTurns = 3

// empty reports whether there are no frames to be written.
func (o *output) empty() bool { return o.frames == nil || len(o.frames.b) == 0 }

// room returns how many more bytes of replies may be added. If the server is short of memory, a small
// buffer has to do.
func (o *output) room() int {
	most := o.cfg.outputBuffer
	if !o.share.allows(hugeBuffer) {
		most = min(most, smallBuffer-maxShortHeader)
	}
	if o.frames == nil {
		return most
	}
	return most - len(o.frames.b)
}

// maxShortHeader is about how long the header of a reply is, which has to fit a small buffer too.
const maxShortHeader = 512

// slice returns how many bytes of one stream may be added at a time.
func (o *output) slice() int {
	if !o.share.allows(hugeBuffer) {
		return max(o.room(), 1)
	}
	return sliceSize
}

// countControl counts an answer to a control frame. It reports whether the peer has left no more of
// them unread than it may, and than there is memory for.
func (o *output) countControl() bool {
	o.control++
	return int(o.control) <= o.cfg.maxQueuedControl && (len(o.buffer().b) <= smallBuffer || o.share.allows(0))
}

// buffer returns the buffer that collects frames.
func (o *output) buffer() *buffer {
	if o.frames == nil {
		o.frames = o.pools.get(smallBuffer)
	}
	return o.frames
}

// reserve returns the buffer that collects frames with room for n more bytes. It grows by moving to
// a larger pooled buffer; append would allocate a new array for each size on the way.
func (o *output) reserve(n int) *buffer {
	b := o.buffer()
	if n += len(b.b); n <= cap(b.b) || n > hugeBuffer {
		return b
	}
	size := largeBuffer
	if n > largeBuffer {
		size = hugeBuffer
	}
	o.frames = o.pools.get(size)
	o.share.chargeBuffer(o.frames)
	o.frames.b = append(o.frames.b, b.b...)
	o.pools.put(b)
	return o.frames
}

// Write implements io.Writer for the Framer, which writes control frames.
func (o *output) Write(p []byte) (int, error) {
	b := o.buffer()
	b.b = append(b.b, p...)
	o.share.chargeBuffer(b)
	return len(p), nil
}

// addHeaders adds a header block, as HEADERS and as many CONTINUATION frames as it needs (RFC 9113
// §6.10).
func (o *output) addHeaders(e *headerEncoder, id uint32, status int, fields []field, length int64, end bool) {
	b := o.buffer()
	start := len(b.b)
	b.b = appendFrameHeader(b.b, 0, http2.FrameHeaders, 0, id)
	b.b = e.appendBlock(b.b, status, fields, length)
	o.share.chargeBuffer(b)
	var flags http2.Flags
	if end {
		flags = http2.FlagHeadersEndStream
	}
	n := len(b.b) - start - frameHeaderLen
	if n <= minFrameSize {
		setFrameHeader(b.b[start:], n, flags|http2.FlagHeadersEndHeaders)
		return
	}
	// This is rare, so it may copy: the first frame stays in its place and the rest is appended
	// again.
	rest := append([]byte(nil), b.b[start+frameHeaderLen+minFrameSize:]...)
	b.b = b.b[:start+frameHeaderLen+minFrameSize]
	setFrameHeader(b.b[start:], minFrameSize, flags)
	for len(rest) > 0 {
		n := min(len(rest), minFrameSize)
		flags = 0
		if n == len(rest) {
			flags = http2.FlagContinuationEndHeaders
		}
		b.b = appendFrameHeader(b.b, n, http2.FrameContinuation, flags, id)
		b.b = append(b.b, rest[:n]...)
		rest = rest[n:]
	}
}

// addData adds a DATA frame with the first n bytes of data, which it removes from there.
func (o *output) addData(id uint32, data *[2][]byte, n int, end bool) {
	var flags http2.Flags
	if end {
		flags = http2.FlagDataEndStream
	}
	b := o.reserve(n + frameHeaderLen)
	b.b = appendFrameHeader(b.b, n, http2.FrameData, flags, id)
	k := min(n, len(data[0]))
	b.b = append(b.b, data[0][:k]...)
	b.b = append(b.b, data[1][:n-k]...)
	data[0], data[1] = data[0][k:], data[1][n-k:]
}

func appendFrameHeader(dst []byte, n int, t http2.FrameType, flags http2.Flags, id uint32) []byte {
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags))
	return binary.BigEndian.AppendUint32(dst, id)
}

func setFrameHeader(frame []byte, n int, flags http2.Flags) {
	frame[0], frame[1], frame[2], frame[4] = byte(n>>16), byte(n>>8), byte(n), byte(flags)
}
