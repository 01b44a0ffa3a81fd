package gate

import (
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/server/rpc"
)

// shedRetry is when a refused call may be tried again.
const shedRetry = 100 * time.Millisecond

// shed refuses unary calls beyond a maximum of concurrent ones. They do not wait instead, because on a
// slow server all waiting calls would be answered too late. Streams have their own maximum, in the
// gate streams, because an idle stream costs no work.
//
// A call takes its slot once its request is complete. The last quarter of the slots is shared out, see
// limit: to a caller an eighth of all slots, to a connection a 64th.
type shed struct {
	slots *limit
	full  *connect.Error
}

func newShed(maxCalls int) *shed {
	all := int64(maxCalls)
	return &shed{
		slots: newLimit(all, all/4, all/8, all/64),
		// UNAVAILABLE and not RESOURCE_EXHAUSTED: the cause is not this caller, nothing was done, and
		// clients and proxies may try another server.
		full: retryLater(connect.CodeUnavailable, shedRetry, fmt.Errorf(
			"this server already answers %d calls, its maximum (--max-concurrent-calls): call again later", maxCalls)),
	}
}

// wrap does not count vital methods: they are cheap, and needed most when the server is overloaded.
func (s *shed) wrap(method *rpc.Method, next http.Handler) http.Handler {
	if method.Vital || method.Streams() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		slot, ok := s.slots.take(r, 1)
		if !ok {
			rpc.Refuse(w, r, rpc.ReasonUnavailable, s.full)
			return
		}
		defer slot.giveBack()
		next.ServeHTTP(w, r)
	})
}
