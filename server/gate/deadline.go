package gate

import (
	"net/http"
	"time"

	"example.com/roster/server/rpc"
)

// deadline sets the server's deadline for each unary call; an earlier deadline of the client remains.
// Streams have none.
type deadline struct{ max time.Duration }

func (d deadline) wrap(method *rpc.Method, next http.Handler) http.Handler {
	if d.max <= 0 || method.Streams() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := rpc.From(r.Context())
		c.Limit(c.Start.Add(d.max))
		next.ServeHTTP(w, r)
	})
}

// boundReply ends the writing of a reply at the deadline of its call, for a peer that reads the reply
// slowly. A stream has no deadline, and so no such bound. Call what it returns when the handler has
// returned. Over HTTP/2 it costs a timer, so only calls whose replies may be long are bounded by it.
func boundReply(w http.ResponseWriter, r *http.Request) (stop func()) {
	deadline, ok := r.Context().Deadline()
	if !ok {
		return func() {}
	}
	control := http.NewResponseController(w)
	// An HTTP server that does not support it has its own timers.
	_ = control.SetWriteDeadline(deadline)
	return func() {
		if r.ProtoMajor == 1 {
			_ = control.SetWriteDeadline(time.Time{}) // the connection's next reply has its own
		}
	}
}
