package gate

import (
	"net/http"
	"time"

	"example.com/roster/server/rpc"
)

// deadline gives each unary call a deadline of the server's, if its client has set no earlier one.
// Streams may last.
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
