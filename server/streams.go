package server

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"example.com/roster/server/api"
	"example.com/roster/server/drain"
)

// endStreams ends the streams of messages that clients send when the port
// closes: reading on fails with UNAVAILABLE, which a handler passes on and the
// client takes for what it is, a reason to call again. It would hold up the
// drain to its timeout otherwise. A handler that only sends has no such moment:
// it looks at drain.State.Closing.
func endStreams(route api.Route, state *drain.State, next http.Handler) http.Handler {
	if !route.ClientStreams {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := &endingBody{ReadCloser: r.Body, control: http.NewResponseController(w)}
		stop := state.AfterClosing(body.end)
		defer stop()
		defer body.leave()
		r.Body = body
		next.ServeHTTP(w, r)
	})
}

// endingBody is a request's body that can be ended from elsewhere.
type endingBody struct {
	io.ReadCloser
	control *http.ResponseController

	mu    sync.Mutex
	ended bool
	left  bool // the handler has returned, and control is not to be used
}

// Read implements io.Reader.
func (b *endingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.ended {
			return n, drain.Reconnect()
		}
	}
	return n, err
}

func (b *endingBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	if !b.left {
		// In the past, so it ends a read that waits. Both engines can.
		_ = b.control.SetReadDeadline(time.Unix(1, 0))
	}
}

func (b *endingBody) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = true
}
