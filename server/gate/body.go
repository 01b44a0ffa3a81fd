package gate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/server/h2"
	"example.com/roster/server/rpc"
)

// maxBodyBytes bounds what is read of a request: one message of the maximum size, its envelope, and
// some of what exceeds it.
const maxBodyBytes = rpc.MaxMessageBytes + 64<<10

// body bounds the body of a request that is one message: its size, and how long it may stall. It
// does not apply to a stream of messages, which the gate streams bounds.
type body struct{ stall time.Duration }

func (b body) wrap(method *rpc.Method, next http.Handler) http.Handler {
	if method.ClientStreams {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := complete(r); ok {
			if method.ServerStreams {
				next.ServeHTTP(w, r)
				return
			}
			// Connect flushes after the message and again after the trailers.
			next.ServeHTTP(h2.OnePiece(w), r)
			w.WriteHeader(http.StatusOK) // for observers, if the reply was nothing but trailers
			return
		}
		media, _ := rpc.RequestMediaType(r)
		body := &boundBody{
			ReadCloser: http.MaxBytesReader(serversOwn(w), r.Body, maxBodyBytes),
			request:    r,
			control:    http.NewResponseController(w),
			timeout:    b.stall,
			enveloped:  media.Enveloped,
		}
		defer body.stop()
		r.Body = body
		next.ServeHTTP(w, r)
	})
}

// complete reports whether package h2 has received the whole body already, and the body's size in
// bytes. Such a body is within the bounds of that package, and reading it never waits.
func complete(r *http.Request) (size int64, ok bool) {
	if body, ok := r.Body.(h2.Body); ok {
		return body.Complete()
	}
	return 0, false
}

// serversOwn unwraps w down to the ResponseWriter of the HTTP server. http.MaxBytesReader has to be
// given that one in order to close the connection after a body that is too long.
func serversOwn(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapper.Unwrap()
	}
}

// boundBody is a body of one message that has not arrived completely. A read fails if nothing has
// arrived for timeout, and if the message is too long. One timer serves the whole body: a read only
// records the time, which the timer checks when it fires.
type boundBody struct {
	io.ReadCloser
	request   *http.Request
	control   *http.ResponseController
	timeout   time.Duration
	size      int64 // bytes read
	enveloped bool  // the length of the message precedes it

	mu      sync.Mutex
	timer   *time.Timer
	last    time.Time // of the last bytes
	stopped bool      // the body has ended, or the handler has returned
}

// Read implements io.Reader.
func (b *boundBody) Read(p []byte) (int, error) {
	n, err := b.read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, late(b.request.Context(), connect.NewError(connect.CodeDeadlineExceeded,
			fmt.Errorf("the request's body stood still for %v", b.timeout)))
	}
	if b.tooLong(p[:n]) {
		return 0, b.discard()
	}
	b.size += int64(n)
	return n, err
}

func (b *boundBody) read(p []byte) (int, error) {
	b.note(nil)
	n, err := b.ReadCloser.Read(p)
	b.note(err)
	return n, err
}

// tooLong reports whether the message, of which next are the next bytes, exceeds the maximum: by the
// length in its envelope, or else by its bytes so far.
func (b *boundBody) tooLong(next []byte) bool {
	if !b.enveloped {
		return b.size+int64(len(next)) > rpc.MaxMessageBytes
	}
	return b.size == 0 && len(next) >= rpc.EnvelopeBytes && binary.BigEndian.Uint32(next[1:]) > rpc.MaxMessageBytes
}

// discard reads the rest of the body, up to maxBodyBytes, because some clients do not read the reply
// before they have sent the whole request.
func (b *boundBody) discard() error {
	buffer := make([]byte, 32<<10)
	for {
		if _, err := b.read(buffer); err != nil {
			return rpc.TooLong()
		}
	}
}

// late is the error of a request whose wait was ended: Overdue if the call's deadline has passed, else
// why.
func late(ctx context.Context, why *connect.Error) *connect.Error {
	if limit, over := rpc.From(ctx).Overdue(); over {
		return rpc.Overdue(limit)
	}
	return why
}

// gone is the error of a request whose context has ended with err.
func gone(ctx context.Context, err error) *connect.Error {
	return late(ctx, connect.NewError(connect.CodeCanceled, err))
}

// Close does nothing: the server closes the body after the handler, and then reads the rest of it,
// which BoundLeftovers limits.
func (b *boundBody) Close() error { return nil }

func (b *boundBody) note(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.stopped:
	case err != nil:
		b.stopLocked()
	default:
		b.last = time.Now()
		if b.timer == nil {
			b.timer = time.AfterFunc(b.left(), b.check)
		}
	}
}

// left is how long the read may still wait: until the stall timeout or the call's deadline.
func (b *boundBody) left() time.Duration {
	left := b.timeout - time.Since(b.last)
	if deadline, ok := b.request.Context().Deadline(); ok {
		left = min(left, time.Until(deadline))
	}
	return left
}

// check ends the current read if it has waited too long.
func (b *boundBody) check() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return
	}
	if left := b.left(); left > 0 {
		b.timer.Reset(left)
		return
	}
	// A deadline in the past ends the read. An HTTP server that does not support it has its own timers.
	_ = b.control.SetReadDeadline(time.Unix(1, 0))
}

// stop is called before the handler returns. The request must not be used after that.
func (b *boundBody) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopLocked()
}

func (b *boundBody) stopLocked() {
	b.stopped = true
	if b.timer != nil {
		b.timer.Stop()
	}
}
