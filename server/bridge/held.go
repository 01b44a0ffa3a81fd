package bridge

import (
	"context"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc/mem"

	"example.com/roster/server/rpc"
)

// A call is one call through the bridge, for as long as its request and its replies are in memory. It is
// also a context, which spares an allocation.
type call struct {
	context.Context // of the request

	memory *memory
	began  time.Time
	// littleMetadata says that the caller accepts no more than maxCallerMetadata.
	littleMetadata bool
	http1          bool // the request is of HTTP/1.1
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

	outcome *outcome                // of direct, for Connect
	prefix  [rpc.EnvelopeBytes]byte // of the reply of direct

	mu     sync.Mutex
	writer http.ResponseWriter     // nil after the handler has returned
	record *rpc.Call               // whose context is that of the upstream's call; set by calls
	cancel context.CancelCauseFunc // ends the call of the upstream
	why    error                   // why it was ended
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// Value implements context.Context.
func (c *call) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// begin returns the record of a call with this context that is answered to w.
func (m *memory) begin(ctx context.Context, w http.ResponseWriter) *call {
	c := &call{Context: ctx, memory: m, began: time.Now(), writer: w}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[c] = struct{}{}
	return c
}

// leave gives back all that the call holds. It is called when the handler has returned.
func (c *call) leave() {
	c.mu.Lock()
	c.writer, c.record, c.cancel = nil, nil, nil
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

// calls is with for a unary call of the upstream, whose context is derived from that of the request. It
// spares a context. If the call has been ended already, it returns why.
func (c *call) calls() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.record = rpc.From(c)
	return c.why
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
	if c.record != nil {
		c.record.Cancel()
	}
	c.memory.mu.Lock()
	sending := !c.sending.IsZero()
	c.memory.mu.Unlock()
	if sending && c.writer != nil {
		_ = http.NewResponseController(c.writer).SetWriteDeadline(past)
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

// endRead ends the read of the request. The handler calls it, before it has answered if the request is of
// HTTP/1.1.
func (c *call) endRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writer == nil {
		return
	}
	if c.http1 {
		// The HTTP server takes the connection for one that its client has left, and would cancel the later
		// requests on it.
		c.writer.Header().Set("Connection", "close")
	}
	_ = http.NewResponseController(c.writer).SetReadDeadline(past)
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

// expect waits until a reply of size bytes, as it is expected, fits into half of the bound together with those
// that other calls expect: so large replies come one after the other. If there is no room for it, calls are
// ended whose callers read too slowly, and no others: an upstream may take its time.
func (c *call) expect(ctx context.Context, size int64) error {
	m := c.memory
	size = min(size, m.limit/2)
	if size <= littleReply {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	fits := func() bool { return m.expected+size <= m.limit/2 }
	if err := m.waitLocked(ctx, fits, func(int) { m.endSlow(0) }); err != nil {
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
