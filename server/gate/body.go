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

// maxBodyBytes bounds what is read of a request: one message of the largest size, its envelope, and
// some of what is too much.
const maxBodyBytes = rpc.MaxMessageBytes + 64<<10

// body bounds the body of a request that is one message, in size and in the time for which it may
// stand still. A stream of messages may be as long and as quiet as its caller likes.
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
			w.WriteHeader(http.StatusOK) // of a reply that is trailers alone, for those who observe it
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

// complete tells whether package h2 holds all of the body already, and its size in bytes. Then it is
// within that package's own bounds, and nothing of it is waited for.
func complete(r *http.Request) (size int64, ok bool) {
	if body, ok := r.Body.(h2.Body); ok {
		return body.Complete()
	}
	return 0, false
}

// serversOwn is the ResponseWriter beneath those that wrap it. http.MaxBytesReader tells it, and no
// other, to close the connection of a body that is too long.
func serversOwn(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapper.Unwrap()
	}
}

// boundBody is the body of a request that is still to come: one message. Its read fails when nothing
// has come for timeout, and when the message is too long. One timer serves the whole body: a read
// only notes the time, and the timer looks at that when it fires.
type boundBody struct {
	io.ReadCloser
	request   *http.Request
	control   *http.ResponseController
	timeout   time.Duration
	size      int64 // bytes read
	enveloped bool  // the message has its length before it

	mu      sync.Mutex
	timer   *time.Timer
	last    time.Time // when bytes came last
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

// tooLong tells that a message is longer than it may be, by what comes next of it: by the length that
// it says it has, or by the one that it has.
func (b *boundBody) tooLong(next []byte) bool {
	if !b.enveloped {
		return b.size+int64(len(next)) > rpc.MaxMessageBytes
	}
	return b.size == 0 && len(next) >= rpc.EnvelopeBytes && binary.BigEndian.Uint32(next[1:]) > rpc.MaxMessageBytes
}

// discard reads on for a while, for those clients that read no reply while they still have to send.
func (b *boundBody) discard() error {
	buffer := make([]byte, 32<<10)
	for {
		if _, err := b.read(buffer); err != nil {
			return rpc.TooLong()
		}
	}
}

// late is the error of a request that waited in vain: that of the call's deadline if it has passed,
// else why.
func late(ctx context.Context, why *connect.Error) *connect.Error {
	if limit, over := rpc.From(ctx).Overdue(); over {
		return rpc.Overdue(limit)
	}
	return why
}

// gone is the error of a request whose context has ended.
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

// left is how long the read may still wait, in all and for the call's deadline.
func (b *boundBody) left() time.Duration {
	left := b.timeout - time.Since(b.last)
	if deadline, ok := b.request.Context().Deadline(); ok {
		left = min(left, time.Until(deadline))
	}
	return left
}

// check ends the read under way if it has waited for as long as it may.
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
	// A deadline in the past; a server that cannot set one has timers of its own.
	_ = b.control.SetReadDeadline(time.Unix(1, 0))
}

// stop is called before the handler returns: its request may not be touched after that.
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
