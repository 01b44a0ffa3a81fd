package bridge

import (
	"context"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc/mem"
)

// A call is one call through the bridge, for as long as its request and its replies are in memory.
type call struct {
	memory *memory
	began  time.Time
	// littleMetadata says that the caller accepts no more than maxCallerMetadata.
	littleMetadata bool
	// picked is the process that grpc-go was told to call (balance.go). It asks again only if that has
	// certainly not begun the call.
	picked *load

	// Under the lock of memory:
	sending  time.Time // since when the caller takes the reply to be sent; zero if none is
	held     int64     // bytes of replies, apart from those in buffers of memory, and of their JSON
	expects  int64     // bytes of memory.expected
	requests int64     // bytes of memory.requests
	over     bool      // it has been ended

	body *streamBody // of a stream of requests; it belongs to the goroutine that receives them

	replies mem.BufferSlice // that are not sent yet; it belongs to the goroutine of the handler

	mu      sync.Mutex
	control *http.ResponseController // nil after the handler has returned
	cancel  context.CancelCauseFunc  // ends the call of the upstream
	why     error                    // why it was ended
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// begin returns the record of a call that is answered to w.
func (m *memory) begin(w http.ResponseWriter) *call {
	c := &call{memory: m, began: time.Now(), control: http.NewResponseController(w)}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[c] = struct{}{}
	return c
}

// leave gives back all that the call holds. It is called when the handler has returned.
func (c *call) leave() {
	c.mu.Lock()
	c.control, c.cancel = nil, nil
	c.mu.Unlock()
	c.free()
	m := c.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.calls, c)
	m.used -= c.held
	m.expected -= c.expects
	m.wakeLocked()
	if c.requests > 0 {
		m.requests.Release(c.requests)
	}
}

// with derives the context of the upstream's call.
func (c *call) with(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	c.mu.Lock()
	c.cancel = cancel
	why := c.why
	c.mu.Unlock()
	if why != nil {
		cancel(why)
	}
	return ctx, func() { cancel(nil) }
}

// end ends the call with an error: the upstream's side, and a reply that is being written.
func (c *call) end(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != nil {
		return
	}
	c.why = why
	if c.cancel != nil {
		c.cancel(why)
	}
	c.memory.mu.Lock()
	sending := !c.sending.IsZero()
	c.memory.mu.Unlock()
	if sending && c.control != nil {
		_ = c.control.SetWriteDeadline(past)
	}
}

// past is a deadline that ends a read or a write at once.
var past = time.Unix(1, 0)

// ended returns why the call was ended by end, nil if it was not.
func (c *call) ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

// endRead ends the read of the request.
func (c *call) endRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.control != nil {
		_ = c.control.SetReadDeadline(past)
	}
}

// hold charges a reply that is in no buffer of memory.
func (c *call) hold(size int) {
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	c.held += int64(size)
	c.memory.used += int64(size)
}

// sends notes that the replies which the call holds are being sent to the caller.
func (c *call) sends() {
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	c.sending = time.Now()
}

// free gives back the buffers of the replies.
func (c *call) free() {
	for _, piece := range c.replies {
		if plain, ok := piece.(mem.SliceBuffer); ok { // large ones have been decompressed
			c.memory.done(plain)
		}
	}
	c.replies.Free()
	c.replies = nil
}

// sent gives back the replies that have been sent.
func (c *call) sent() {
	c.free()
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	c.memory.used -= c.held
	c.held, c.sending = 0, time.Time{}
	c.memory.wakeLocked()
}

// expect waits until a reply of the size that others of the method had fits into half of the bound, so
// that many large replies come one after the other.
func (c *call) expect(ctx context.Context, size int64) error {
	m := c.memory
	size = min(size, m.limit/2)
	if size <= smallMessage {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.waitLocked(ctx, func() bool { return m.expected+size <= m.limit/2 }); err != nil {
		return err
	}
	m.expected += size
	c.expects = size
	return nil
}

// request charges a request of size bytes until the call ends, and waits until there is room for it.
func (c *call) request(ctx context.Context, size int64) error {
	size = min(size, c.memory.requestLimit)
	if size <= smallMessage {
		return nil
	}
	if err := c.memory.requests.Acquire(ctx, size); err != nil {
		return err
	}
	c.requests += size
	return nil
}
