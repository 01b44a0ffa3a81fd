package gate

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/server/drain"
	"example.com/roster/server/rpc"
)

// streamsRetry is how long a caller should wait before it opens a stream again for which there was no
// room.
const streamsRetry = time.Second

// streams bounds the number of open calls of each streaming method. It also ends the streams that
// clients send, when the port closes, when nothing has arrived for as long as the policy allows, and
// when not everything has arrived in the time that it allows. When the port closes, the read of the
// handler fails with UNAVAILABLE, which makes clients call again; without that an idle stream would
// delay the drain until its timeout. A handler that does not read has to watch drain.State.Closing.
type streams struct {
	drain *drain.State

	mu sync.Mutex
	// open maps paths to the number of open calls. It outlives the mounts, so that calls of a method
	// that is mounted again still count.
	open map[string]*atomic.Int64
}

func newStreams(drain *drain.State) *streams {
	return &streams{drain: drain, open: make(map[string]*atomic.Int64)}
}

func (s *streams) count(path string) *atomic.Int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[path] == nil {
		s.open[path] = new(atomic.Int64)
	}
	return s.open[path]
}

func (s *streams) wrap(method *rpc.Method, next http.Handler) http.Handler {
	if !method.Streams() {
		return next
	}
	if method.ClientStreams {
		next = s.ended(method, next)
	}
	open := s.count(method.Path)
	limit := "a fixed limit, no flag"
	if method.StreamsFlag != "" {
		limit = method.StreamsFlag
	}
	// With a RetryInfo, which no error has that would be the same after any wait.
	full := retryLater(connect.CodeResourceExhausted, streamsRetry, fmt.Errorf(
		"%d calls of %s are open, the maximum of this server (%s): call again later", method.MaxStreams, method.Path, limit))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if method.ServerStreams && rpc.From(r.Context()).Protocol != rpc.GRPC {
			// nginx would keep the messages until it has some kilobytes of them. It never does with gRPC,
			// whose clients would present the field as metadata of the call.
			w.Header()["X-Accel-Buffering"] = []string{"no"}
		}
		defer open.Add(-1)
		if open.Add(1) > int64(method.MaxStreams) {
			rpc.Refuse(w, r, rpc.ReasonResourceExhausted, full)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *streams) ended(method *rpc.Method, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := &endingBody{ReadCloser: r.Body, control: http.NewResponseController(w), maxQuiet: method.MaxQuiet, maxTime: method.MaxTime}
		if method.MaxTime > 0 {
			body.until = time.Now().Add(method.MaxTime)
		}
		stop := s.drain.AfterClosing(body.end)
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
	maxTime  time.Duration
	until    time.Time // when maxTime is over; zero if there is none

	mu    sync.Mutex
	ended bool
	left  bool // the handler has returned, and control must not be used
}

// Read implements io.Reader.
func (b *endingBody) Read(p []byte) (int, error) {
	if b.over() { // also if there is always something to read
		return 0, b.tooLate()
	}
	b.quiet()
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.complete()
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.ended:
		return n, drain.Reconnect()
	case b.over():
		return n, b.tooLate()
	case b.maxQuiet > 0:
		return n, connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("no message for %v: call again", b.maxQuiet))
	}
	return n, err
}

// over reports whether the time for all messages is over.
func (b *endingBody) over() bool { return !b.until.IsZero() && !time.Now().Before(b.until) }

func (b *endingBody) tooLate() error {
	return connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf(
		"the messages did not all come in %v, the longest that a call of this method may take (a fixed limit, no flag): split them over several calls", b.maxTime))
}

// quiet starts the time that the next read may take.
func (b *endingBody) quiet() {
	b.mu.Lock()
	defer b.mu.Unlock()
	deadline := b.until
	if b.maxQuiet > 0 {
		if next := time.Now().Add(b.maxQuiet); deadline.IsZero() || next.Before(deadline) {
			deadline = next
		}
	}
	if !deadline.IsZero() && !b.ended && !b.left {
		// An HTTP server that does not support it has its own timers.
		_ = b.control.SetReadDeadline(deadline)
	}
}

// complete takes the deadline back once everything has arrived. With HTTP/1.1 the server goes on reading, to
// notice that the client leaves, and would take the deadline for that.
func (b *endingBody) complete() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if (b.maxQuiet > 0 || !b.until.IsZero()) && !b.ended && !b.left {
		_ = b.control.SetReadDeadline(time.Time{})
	}
	b.maxQuiet, b.until = 0, time.Time{}
}

func (b *endingBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	if !b.left {
		// A deadline in the past ends the current read, with either HTTP/2 engine.
		_ = b.control.SetReadDeadline(time.Unix(1, 0))
	}
}

func (b *endingBody) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = true
}
