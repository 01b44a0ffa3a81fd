package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/server/api"
	"example.com/roster/server/drain"
)

// endStreams ends the streams of messages that clients send: when the port
// closes, with UNAVAILABLE, which a handler passes on and the client takes for
// what it is, a reason to call again, or the stream would hold up the drain to
// its timeout; and when nothing has come for as long as the route lets it. A
// handler that only sends has no such moment: it looks at drain.State.Closing.
func endStreams(route api.Route, state *drain.State, next http.Handler) http.Handler {
	if !route.ClientStreams {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := &endingBody{ReadCloser: r.Body, control: http.NewResponseController(w), maxQuiet: route.MaxQuiet}
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
	control  *http.ResponseController
	maxQuiet time.Duration

	mu    sync.Mutex
	ended bool
	left  bool // the handler has returned, and control is not to be used
}

// Read implements io.Reader.
func (b *endingBody) Read(p []byte) (int, error) {
	b.quiet()
	n, err := b.ReadCloser.Read(p)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.ended:
		return n, drain.Reconnect()
	case b.maxQuiet > 0:
		return n, connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("no message for %v: call again", b.maxQuiet))
	}
	return n, err
}

// quiet gives the next read as long as the stream may be quiet.
func (b *endingBody) quiet() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.maxQuiet > 0 && !b.ended && !b.left {
		// A server that cannot set one has timers of its own.
		_ = b.control.SetReadDeadline(time.Now().Add(b.maxQuiet))
	}
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
