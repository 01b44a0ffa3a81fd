// Package rpc is what every other room of the port agrees on: the record of one request ([Call]),
// what is mounted and on which terms ([Mount], [Policy], [Table]), and the tables of media types,
// compressions, codes, sizes and reasons of refusal. It answers no call itself.
//
// The port makes the record before anything looks at the request. Each gate adds what it finds out,
// and the logs and metrics are written from it in the end. A Call is also the context of its
// request, so that one allocation carries both:
//
//	if c := rpc.From(ctx); c != nil {
//		c.Identity = "batch-import"
//	}
//
// The fields of a Call belong to the goroutine that serves the request.
package rpc

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
)

// Call is the record of one request. Except for the methods of context.Context it is not safe for
// concurrent use.
type Call struct {
	// Start is when the request's header was complete.
	Start time.Time
	// Procedure is the path of the RPC, such as "/MyService/User". It is empty for the page and for
	// paths that do not exist, so it is always one of a fixed set of names.
	Procedure string
	// Protocol and Codec are those of the RPC.
	Protocol Protocol
	Codec    Codec
	// Identity is the authenticated name of the caller: that of its token or its certificate. It is
	// empty for an unauthenticated caller.
	Identity string
	// RequestBytes is the size of the request's message, decompressed. It is set for methods whose policy
	// has OwnBudget.
	RequestBytes int64
	// Proxied is set if the peer of the connection is a trusted proxy, which carries the requests of
	// several callers on one connection.
	Proxied bool
	// Handled is set once the handler of the RPC has returned. Failure is final then.
	Handled bool
	// Malformed is set if a message of the client's could not be read although its handler ran, which
	// is so for streams.
	Malformed bool
	// Failure is the error that ended the RPC, nil if it succeeded or if the request is no RPC.
	Failure *connect.Error
	// Refused is the reason why a gate refused the request, empty if none did.
	Refused Reason
	// InFlight, if set, is the gauge that counts the call while it runs. It belongs to the metrics.
	InFlight *atomic.Int64
	// Took is how long the request took. It is set once the request has been served.
	Took time.Duration

	// Reply, if set, is told the size of a unary reply before it is encoded. It belongs to the gate
	// that bounds what replies hold together.
	Reply ReplyHolder

	parent context.Context
	reply  reply // used if there are observers

	mu       sync.Mutex
	deadline time.Time       // the server's; zero if it has set none
	limited  context.Context // parent with the deadline, if there is one; made by the first call of Done
	cancel   context.CancelFunc
}

// A ReplyHolder waits until there is memory for a reply of size bytes.
type ReplyHolder interface{ Hold(size int) *connect.Error }

type key struct{}

// Of returns the record of r, and the request to pass on, whose context the record is. Call End when
// the request has been served.
func Of(r *http.Request) (*Call, *http.Request) {
	if c, ok := r.Context().(*Call); ok {
		return c, r // the HTTP server has made the record: see NewContext
	}
	c := newCall(r.Context())
	return c, r.WithContext(c)
}

// NewContext returns a new record, as a context derived from parent. It is for an HTTP server that
// creates requests with a given context (h2.Config.RequestContext), which spares a copy of the request.
func NewContext(parent context.Context) context.Context { return newCall(parent) }

func newCall(parent context.Context) *Call { return &Call{Start: time.Now(), parent: parent} }

// From returns the record of the request that ctx belongs to, nil if there is none.
func From(ctx context.Context) *Call {
	c, _ := ctx.Value(key{}).(*Call)
	return c
}

// Code is the code that the RPC ended with; 0 is OK.
func (c *Call) Code() connect.Code {
	if c.Failure == nil {
		return 0
	}
	return c.Failure.Code()
}

// Limit ends the call's context at deadline, unless it ends earlier. Call it once, before the context
// is handed on.
func (c *Call) Limit(deadline time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = deadline
}

// Overdue reports whether the deadline of Limit has passed, and how long after the start of the call
// that deadline is.
func (c *Call) Overdue() (limit time.Duration, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deadline.Sub(c.Start), !c.deadline.IsZero() && time.Until(c.deadline) <= 0
}

// Cancel ends the call's context early.
func (c *Call) Cancel() {
	_ = c.context()
	c.End()
}

// End releases the resources of the context.
func (c *Call) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel()
	}
}

// Value implements context.Context. Package context looks for its own type behind a context that somebody
// waits for: if it finds that, it needs no goroutine to cancel what is derived from the context.
func (c *Call) Value(k any) any {
	if k == (key{}) {
		return c
	}
	c.mu.Lock()
	ctx := c.limited
	c.mu.Unlock()
	if ctx == nil {
		ctx = c.parent
	}
	return ctx.Value(k)
}

// Deadline implements context.Context.
func (c *Call) Deadline() (time.Time, bool) {
	deadline, ok := c.parent.Deadline()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.deadline.IsZero() && (!ok || c.deadline.Before(deadline)) {
		return c.deadline, true
	}
	return deadline, ok
}

// Done implements context.Context.
func (c *Call) Done() <-chan struct{} { return c.context().Done() }

// Err implements context.Context.
func (c *Call) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limited != nil {
		return c.limited.Err()
	}
	if err := c.parent.Err(); err != nil {
		return err
	}
	if !c.deadline.IsZero() && time.Until(c.deadline) <= 0 {
		return context.DeadlineExceeded
	}
	return nil
}

// AfterFunc lets package context follow this context without starting a goroutine that waits for it.
func (c *Call) AfterFunc(f func()) (stop func() bool) {
	return context.AfterFunc(c.context(), f)
}

// context returns the parent with the deadline. Its timer is started by the first call: a request that
// is answered from memory never waits for its context, and so never starts one.
func (c *Call) context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.limited != nil:
	case c.deadline.IsZero():
		c.limited, c.cancel = context.WithCancel(c.parent)
	default:
		c.limited, c.cancel = context.WithDeadline(c.parent, c.deadline)
	}
	return c.limited
}

// Recognize records the method that is called, its protocol and its codec.
func (c *Call) Recognize(method *Method, r *http.Request) {
	c.Procedure = method.Path
	if media, ok := RequestMediaType(r); ok {
		c.Protocol, c.Codec = media.Protocol, media.Codec
	}
}

// patience is the shortest deadline of a client that a server in order meets.
const patience = time.Second

// Fault reports whether the call has failed by a fault of the server, or may have. A request that could
// not be read, so that mostly no handler saw it, is the client's fault whatever its code, and so is a
// deadline of less than a second. Call it when the call has ended.
func (c *Call) Fault() bool {
	if c.Malformed || !c.Handled && c.Refused == "" {
		return false
	}
	switch code := c.Code(); code {
	case connect.CodeUnknown, connect.CodeInternal, connect.CodeUnavailable, connect.CodeDataLoss:
		return true
	case connect.CodeDeadlineExceeded:
		return c.Took >= patience
	default:
		return code > connect.CodeUnauthenticated // a code that gRPC does not have
	}
}
