package rpc

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"
)

// An Observer is told of every request of a port: it counts, logs or traces.
// Its methods run on the goroutine that serves the request, so they are quick,
// and keep neither the Call nor the request.
type Observer interface {
	// Serves is called before the first request, and again whenever the mounts of
	// the port change, with everything that it answers. Requests may run meanwhile.
	Serves(table *Table)
	// Begin is called when a request's header has come, before anything has
	// looked at it: the record has its Start alone.
	Begin(c *Call, r *http.Request)
	// End is called when the request has been served and its record is complete.
	End(c *Call, r *http.Request)
}

// Observe tells the observers that the request begins, and returns what it is
// to be answered through. Call Observed when it has been served.
func (c *Call) Observe(observers []Observer, w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	c.reply.ResponseWriter = w
	for _, o := range observers {
		o.Begin(c, r)
	}
	return &c.reply
}

// Observed completes the record and tells the observers.
func (c *Call) Observed(observers []Observer, r *http.Request) {
	c.Took = time.Since(c.Start)
	if c.Protocol != NotRPC && !c.Handled && c.Failure == nil {
		c.Failure = c.failureOnTheWire()
	}
	for _, o := range observers {
		o.End(c, r)
	}
	c.reply.ResponseWriter = nil // it may not be touched from now on
}

// Status is the HTTP status of the reply, 0 if there was none. It is known to
// observers alone.
func (c *Call) Status() int { return c.reply.status }

// Sent is how many bytes of the reply's body were written, envelopes and
// compression included. It is known to observers alone.
func (c *Call) Sent() int64 { return c.reply.sent }

// Parent is the context that the call's own is made of.
func (c *Call) Parent() context.Context { return c.parent }

// SetParent puts the call beneath a context that was made of Parent. It may be
// called in Observer.Begin alone.
func (c *Call) SetParent(ctx context.Context) { c.parent = ctx }

// failureOnTheWire is how an RPC ended that did not come to its handler: what
// Connect refuses while it decodes the request goes through no interceptor, so
// the reply is where its code is to be read.
func (c *Call) failureOnTheWire() *connect.Error {
	header := c.reply.Header()
	for _, name := range [2]string{http.TrailerPrefix + "Grpc-Status", "Grpc-Status"} {
		if values := header[name]; len(values) > 0 {
			code, err := strconv.ParseUint(values[0], 10, 32)
			if err == nil && code == 0 {
				return nil
			}
			return connect.NewError(connect.Code(code), nil)
		}
	}
	switch err := c.Err(); {
	case c.reply.status != 0:
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, nil)
	case err != nil:
		return connect.NewError(connect.CodeCanceled, nil)
	}
	code, ok := CodeOfStatus(c.reply.status)
	switch {
	case ok:
		return connect.NewError(code, nil)
	case c.reply.status >= 200 && c.reply.status < 300 && c.Protocol == Connect:
		return nil
	}
	return connect.NewError(connect.CodeUnknown, nil)
}

// A reply is a ResponseWriter that notes what goes through it. It is part of
// the Call, and so needs no allocation of its own.
type reply struct {
	http.ResponseWriter
	status int
	sent   int64
}

// WriteHeader implements http.ResponseWriter.
func (w *reply) WriteHeader(status int) {
	if w.status < 200 { // informational ones come before the reply's own
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *reply) Write(p []byte) (int, error) {
	if w.status < 200 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	return n, err
}

// Flush implements http.Flusher, without which Connect refuses to stream.
func (w *reply) Flush() {
	if w.status < 200 {
		w.status = http.StatusOK
	}
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap is for http.ResponseController.
func (w *reply) Unwrap() http.ResponseWriter { return w.ResponseWriter }
