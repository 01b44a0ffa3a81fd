package bridge

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The memory of the messages of one upstream is bounded, so that one that sends too much, or whose
// callers do not read, takes nothing from the rest of the port. There are three bounds, each of
// memoryFactor times the maximum message and at least minMemory:
//
//   - replies, from the first frame to when the caller has taken them. Above the bound nothing more is
//     read from the upstream, and if that does not help, calls are ended: those whose callers read too
//     slowly, else the youngest.
//   - requests that are being received or sent. Small ones are not charged.
//   - conversions between protobuf and JSON, by an estimate of what they take.
//
// A message may be copied once more for its compression and its envelope.
const (
	memoryFactor = 3
	minMemory    = 12 << 20
	// smallMessage is the size in bytes up to which a message is not charged before it has arrived.
	smallMessage = 64 << 10
	// littleReply is the size in bytes up to which a reply is not expected.
	littleReply = 8 << 10
	// pressure is how long the port waits for replies to be taken before it ends calls. While some are being
	// taken it goes on waiting, up to slowAfter.
	pressure = 250 * time.Millisecond
	// slowAfter is how long a caller may take to read one reply while the bound is reached.
	slowAfter = 2 * time.Second
)

// memory charges the messages of one upstream.
type memory struct {
	limit       int64
	requests    *semaphore.Weighted // of requestLimit bytes
	conversions *semaphore.Weighted // of limit bytes

	mu       sync.Mutex
	used     int64               // bytes of received frames, of replies that are not sent yet, and of their JSON
	expected int64               // bytes of the replies that unary calls are likely to get
	buffers  map[uint64]struct{} // that grpc-go has not given back
	last     uint64              // key of buffers
	calls    map[*call]struct{}  // that are running
	waiting  int
	freed    chan struct{} // closed and replaced when used or expected falls while somebody waits

	requestLimit int64

	unused   [len(bufferSizes)]sync.Pool // buffers that grpc-go has given back, by their size
	unpacked [64]sync.Pool               // of replies that have been decompressed, by the bits of their size
}

func newMemory(maxReply, maxRequest int) *memory {
	m := &memory{
		limit:        max(minMemory, memoryFactor*int64(maxReply)),
		requestLimit: max(minMemory, memoryFactor*int64(maxRequest)),
		buffers:      make(map[uint64]struct{}),
		calls:        make(map[*call]struct{}),
		freed:        make(chan struct{}),
	}
	m.requests = semaphore.NewWeighted(m.requestLimit)
	m.conversions = semaphore.NewWeighted(m.limit)
	return m
}

// memory is the buffer pool of the upstream's connections: grpc-go takes from it what it receives. A buffer
// that grpc-go does not give back, as that of a call which was cancelled, counts until it has been
// collected as garbage.
var _ mem.BufferPool = (*memory)(nil)

// buffers of these sizes in bytes are used again, so that they need not be collected as garbage. The longest
// frame that grpc-go accepts has 16 KB, and what it decompresses itself it reads into pieces of 32 KB.
var bufferSizes = [...]int{2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10}

// keyBytes is the size of the key behind the end of each buffer.
const keyBytes = 8

// uncounted is the size up to which grpc-go does not use a pool, in bytes. Frames that are smaller are
// charged by the tap of their connection.
const uncounted = 1 << 10

// Get implements mem.BufferPool. It waits while the bound is reached, which delays the connection
// that the caller reads from.
func (m *memory) Get(length int) *[]byte {
	if length < uncounted {
		buffer := make([]byte, length)
		return &buffer
	}
	size := length
	class := slices.IndexFunc(bufferSizes[:], func(size int) bool { return length <= size })
	var used *[]byte
	if class >= 0 {
		size = bufferSizes[class]
		used, _ = m.unused[class].Get().(*[]byte)
	}
	m.mu.Lock()
	m.chargeLocked(int64(size))
	key := m.last + 1
	if used != nil {
		key = binary.NativeEndian.Uint64((*used)[:size+keyBytes][size:])
	} else {
		m.last = key
	}
	m.buffers[key] = struct{}{}
	m.mu.Unlock()
	if used != nil {
		*used = (*used)[:length]
		return used
	}
	buffer := make([]byte, size+keyBytes)
	binary.NativeEndian.PutUint64(buffer[size:], key)
	runtime.AddCleanup(&buffer[0], func(key uint64) { m.returned(key, int64(size)) }, key)
	buffer = buffer[:length]
	return &buffer
}

// Put implements mem.BufferPool.
func (m *memory) Put(buffer *[]byte) {
	whole := (*buffer)[:cap(*buffer)]
	if len(whole) < uncounted+keyBytes {
		return
	}
	end := len(whole) - keyBytes
	if m.returned(binary.NativeEndian.Uint64(whole[end:]), int64(end)) {
		if class := slices.Index(bufferSizes[:], end); class >= 0 {
			m.unused[class].Put(buffer)
		}
	}
}

// charge charges size bytes that have been received. It waits while the bound is reached.
func (m *memory) charge(size int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.chargeLocked(size)
}

func (m *memory) chargeLocked(size int64) {
	// If all calls have been ended, then grpc-go drops what still comes.
	_ = m.waitLocked(context.Background(), func() bool { return m.used+size <= m.limit || !m.anyLocked() }, m.relieve)
	m.used += size
}

// discharge takes back what charge has charged.
func (m *memory) discharge(size int64) {
	if size == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= size
	m.wakeLocked()
}

// returned takes back the charge of a buffer, and reports whether it was charged.
func (m *memory) returned(key uint64, size int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.buffers[key]
	if ok {
		delete(m.buffers, key)
		m.used -= size
		m.wakeLocked()
	}
	return ok
}

func (m *memory) wakeLocked() {
	if m.waiting > 0 {
		close(m.freed)
		m.freed = make(chan struct{})
	}
}

// waitLocked waits until fits returns true. While it waits, it calls relieve to end more and more calls.
func (m *memory) waitLocked(ctx context.Context, fits func() bool, relieve func(many int)) error {
	if fits() {
		return nil
	}
	m.waiting++
	defer func() { m.waiting-- }()
	timer := time.NewTimer(pressure)
	defer timer.Stop()
	began := time.Now()
	for many := 1; !fits(); {
		freed := m.freed
		m.mu.Unlock()
		select {
		case <-freed:
			if time.Since(began) < slowAfter {
				timer.Reset(pressure)
			}
		case <-timer.C:
			relieve(many)
			many *= 2
			timer.Reset(pressure)
		case <-ctx.Done():
			m.mu.Lock()
			return ctx.Err()
		}
		m.mu.Lock()
	}
	return nil
}

// anyLocked reports whether any call may still take replies.
func (m *memory) anyLocked() bool {
	for c := range m.calls {
		if !c.over {
			return true
		}
	}
	return false
}

// relieve ends the calls whose callers read too slowly, or else the youngest ones that wait for a
// message, up to so many.
func (m *memory) relieve(many int) {
	m.mu.Lock()
	victims, why := m.slowLocked(), m.tooSlow()
	if len(victims) == 0 {
		var young []*call
		for c := range m.calls {
			if !c.over && c.sending.IsZero() {
				young = append(young, c)
			}
		}
		victims, why = youngest(young, many), connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
			"the replies of this server need more than the %d MiB that they may take up at a time (%d times --bridge-max-message, at least %d MiB): call again later, and make fewer large calls at a time",
			m.limit>>20, memoryFactor, minMemory>>20))
	}
	m.endLocked(victims, why)
	if len(victims) == 0 {
		runtime.GC() // what was left behind by calls that failed
	}
}

// slowLocked returns the calls whose callers take too long to read a reply.
func (m *memory) slowLocked() []*call {
	var slow []*call
	for c := range m.calls {
		if !c.over && !c.sending.IsZero() && time.Since(c.sending) > slowAfter {
			slow = append(slow, c)
		}
	}
	return slow
}

func (m *memory) tooSlow() *connect.Error {
	return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
		"the replies of this server wait for callers that read slowly, and fill the %d MiB that they may take up: read faster, or call again later", m.limit>>20))
}

// endLocked ends calls. It unlocks memory.
func (m *memory) endLocked(victims []*call, why *connect.Error) {
	for _, c := range victims {
		c.over = true
	}
	m.mu.Unlock()
	for _, c := range victims {
		c.end(why)
	}
}

// sweep bounds what grpc-go holds for callers that do not read, until ctx is done. It is up to a window for
// each stream, and small frames are not charged (see frames.go). Half of the bound is for them.
func (m *memory) sweep(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			m.endSlow(int(m.limit / 2 / streamWindow))
		}
	}
}

// endSlow ends calls whose callers take too long to read a reply, the slowest first, until there are no
// more than most.
func (m *memory) endSlow(most int) {
	m.mu.Lock()
	if len(m.calls) <= most {
		m.mu.Unlock()
		return
	}
	slow := m.slowLocked()
	slices.SortFunc(slow, func(a, b *call) int { return a.sending.Compare(b.sending) })
	m.endLocked(slow[:max(0, len(slow)-most)], m.tooSlow())
}

func youngest(calls []*call, many int) []*call {
	var found []*call
	for range min(many, len(calls)) {
		at := 0
		for i, c := range calls {
			if c.began.After(calls[at].began) {
				at = i
			}
		}
		found = append(found, calls[at])
		calls[at] = calls[len(calls)-1]
		calls = calls[:len(calls)-1]
	}
	return found
}

// tooLarge is the error of a message that would take size bytes of memory to convert, nil if it may.
func (m *memory) tooLarge(size int64, what protoreflect.FullName) error {
	if size <= m.limit {
		return nil
	}
	return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
		"this %s would take about %d MiB of memory to convert between protobuf and JSON, the maximum is %d MiB: call with protobuf in place of JSON",
		what, size>>20, m.limit>>20))
}

// converting waits until there is room for a conversion that takes size bytes, up to the bound. Call done
// after it. Conversions wait for nobody, so this ends.
func (m *memory) converting(size int64) (done func()) {
	if size <= smallMessage {
		return func() {}
	}
	size = min(size, m.limit)
	_ = m.conversions.Acquire(context.Background(), size) // fails with its context only
	return func() { m.conversions.Release(size) }
}

// requestsFull is the error of a stream whose messages have no room.
func (m *memory) requestsFull() *connect.Error {
	return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
		"the requests to this server need more than the %d MiB that they may take up at a time (%d times --bridge-max-message, at least %d MiB): call again later",
		m.requestLimit>>20, memoryFactor, minMemory>>20))
}
