package rpc

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"
)

// An Observer is notified of every request of a port in order to count, log or trace it. Its methods
// run on the goroutine that serves the request: they must be quick, and must not keep the Call or the
// request.
type Observer interface {
	// Serves is called with the table of the port before the first request, and again whenever the
	// mounts change. Requests may run meanwhile.
	Serves(table *Table)
	// Begin is called when the header of a request has arrived, before any gate. Only Start is set in
	// the record.
	Begin(c *Call, r *http.Request)
	// End is called when the request has been served and its record is complete.
	End(c *Call, r *http.Request)
}

// Observe notifies the observers that the request begins, and returns the ResponseWriter that the
// request must be answered with. Call Observed when the request has been served.
func (c *Call) Observe(observers []Observer, w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	c.reply.ResponseWriter = w
	for _, o := range observers {
		o.Begin(c, r)
	}
	return &c.reply
}

// Observed completes the record and notifies the observers.
func (c *Call) Observed(observers []Observer, r *http.Request) {
	c.Took = time.Since(c.Start)
	if c.Protocol != NotRPC && !c.Handled && c.Failure == nil {
		c.Failure = c.failureOnTheWire()
	}
	for _, o := range observers {
		o.End(c, r)
	}
	c.reply.ResponseWriter = nil // it must not be used after the handler
}

// Status is the HTTP status of the reply, 0 if there was none. It is recorded only for observers.
func (c *Call) Status() int { return c.reply.status }

// Sent is the number of bytes of the reply's body that were written, after compression and with
// envelopes. It is recorded only for observers.
func (c *Call) Sent() int64 { return c.reply.sent }

// Parent is the context that the call's own is derived from.
func (c *Call) Parent() context.Context { return c.parent }

// SetParent replaces the parent by a context that was derived from it. Only Observer.Begin may call it.
func (c *Call) SetParent(ctx context.Context) { c.parent = ctx }

// failureOnTheWire is the error of an RPC that did not reach its handler. A request that Connect
// refuses while it decodes it passes no interceptor, so the code is read from the reply.
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

// A reply is a ResponseWriter that records status and size. It is part of the Call, and so needs no
// allocation of its own.
type reply struct {
	http.ResponseWriter
	status int
	sent   int64
}

// WriteHeader implements http.ResponseWriter.
func (w *reply) WriteHeader(status int) {
	if w.status < 200 { // informational statuses come before the final one
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

// Flush implements http.Flusher, which Connect requires in order to stream.
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
