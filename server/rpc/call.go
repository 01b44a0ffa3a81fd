// Package call is the record of one request on its way through the port: what
// was called, who called, and how it ended. The port makes it before anything
// looks at the request, each middleware adds what it finds out, and what is
// logged and counted in the end is read from it.
//
// A Call is also the context of its request, so that one allocation carries
// both and whoever has the context has the record:
//
//	if c := rpc.From(ctx); c != nil {
//		c.Identity = "batch-import"
//	}
//
// Its fields belong to the goroutine that serves the request.
package rpc

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
)

// Call is one request. Except for the methods of context.Context it is not
// safe for concurrent use.
type Call struct {
	// Start is when the request's header was complete.
	Start time.Time
	// Procedure is the path of the RPC, such as "/MyService/User". It is empty
	// for the page, and for paths that do not exist: it names one of a fixed set.
	Procedure string
	// Protocol and Codec are what the RPC speaks.
	Protocol Protocol
	Codec    Codec
	// Identity is who calls, as authenticated: a token's or a certificate's
	// name. It is empty for a caller who showed neither.
	Identity string
	// Handled: the RPC came to its handler, so Failure says all of how it ended.
	Handled bool
	// Failure is how the RPC ended, nil if well. What is not an RPC has none.
	Failure *connect.Error
	// Refused is why a request was answered in place of its handler, empty if it was not.
	Refused Reason
	// InFlight, if set, is the gauge that counts the call while it runs. It belongs to the metrics.
	InFlight *atomic.Int64
	// Took is how long the request took, known when it has been served.
	Took time.Duration

	parent context.Context
	reply  reply // used if there are observers

	mu       sync.Mutex
	deadline time.Time       // zero if the call has none of ours
	limited  context.Context // parent with the deadline, once somebody waits for it
	cancel   context.CancelFunc
}

type key struct{}

// Of returns the record of r and the request to pass on, which has it as its
// context. End must be called when the request has been served.
func Of(r *http.Request) (*Call, *http.Request) {
	if c, ok := r.Context().(*Call); ok {
		return c, r // whoever made the request has made the record: see NewContext
	}
	c := newCall(r.Context())
	return c, r.WithContext(c)
}

// NewContext is for a server that can give a request its context at once
// (h2.Config.RequestContext): it returns a record that is the context.
func NewContext(parent context.Context) context.Context { return newCall(parent) }

func newCall(parent context.Context) *Call { return &Call{Start: time.Now(), parent: parent} }

// From returns the record of the request that ctx is of, nil if there is none.
func From(ctx context.Context) *Call {
	c, _ := ctx.Value(key{}).(*Call)
	return c
}

// Code is how the RPC ended; 0 is OK.
func (c *Call) Code() connect.Code {
	if c.Failure == nil {
		return 0
	}
	return c.Failure.Code()
}

// Limit ends the call's context at deadline, if it does not end before. It is
// called once, before the context is handed on.
func (c *Call) Limit(deadline time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = deadline
}

// Overdue tells whether the call has taken as long as Limit lets it, and how
// long that is.
func (c *Call) Overdue() (limit time.Duration, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deadline.Sub(c.Start), !c.deadline.IsZero() && time.Until(c.deadline) <= 0
}

// End lets go of what the context holds.
func (c *Call) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel()
	}
}

// Value implements context.Context.
func (c *Call) Value(k any) any {
	if k == (key{}) {
		return c
	}
	return c.parent.Value(k)
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

// AfterFunc is what package context looks for in a parent that is not its own,
// to do without a goroutine that waits for it.
func (c *Call) AfterFunc(f func()) (stop func() bool) {
	return context.AfterFunc(c.context(), f)
}

// context is the parent with the deadline. Its timer is made for those who wait
// alone: a call that is answered from memory never does.
func (c *Call) context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline.IsZero() {
		return c.parent
	}
	if c.limited == nil {
		c.limited, c.cancel = context.WithDeadline(c.parent, c.deadline)
	}
	return c.limited
}

// Recognize notes which method is called, and in which protocol and codec.
func (c *Call) Recognize(method *Method, r *http.Request) {
	c.Procedure = method.Path
	if media, ok := RequestMediaType(r); ok {
		c.Protocol, c.Codec = media.Protocol, media.Codec
	}
}
