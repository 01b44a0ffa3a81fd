package gate

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/server/rpc"
)

// shedRetry is when a call that found the server full may come again.
const shedRetry = 100 * time.Millisecond

// shed refuses the unary calls beyond a maximum of concurrent ones. They could wait, but then those
// that come when the server is slow would all be late, and their callers gone by the time they are
// answered. Streams have counts of their own, since a quiet stream costs no work: see the gate
// streams.
type shed struct {
	running atomic.Int64
	max     int64
	full    *connect.Error
}

func newShed(maxCalls int) *shed {
	return &shed{
		max: int64(maxCalls),
		// UNAVAILABLE and not RESOURCE_EXHAUSTED: it is not this caller who does too much, nothing was
		// done, and clients and proxies may try elsewhere.
		full: retryLater(connect.CodeUnavailable, shedRetry, fmt.Errorf(
			"this server answers %d calls, the most that it may at a time (--max-concurrent-calls): call again later", maxCalls)),
	}
}

// wrap leaves out the methods that tell how the server is: they are few, cheap, and wanted most when
// it has too much to do.
func (s *shed) wrap(method *rpc.Method, next http.Handler) http.Handler {
	if method.Vital || method.Streams() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.running.Add(-1)
		if s.running.Add(1) > s.max {
			rpc.Refuse(w, r, rpc.ReasonUnavailable, s.full)
			return
		}
		next.ServeHTTP(w, r)
	})
}
