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
