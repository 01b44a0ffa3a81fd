package gate

import (
	"context"
	"io"
	"net/http"

	"connectrpc.com/connect"
	"golang.org/x/sync/semaphore"

	"example.com/roster/server/rpc"
)

// A reply is as long as its request makes it, about replyFactor times, and is kept in memory until
// the peer takes it. A caller who asks for much and takes nothing must not fill the memory, so the
// calls of one connection have a budget, and so have those of the port: calls with long requests wait
// for each other when it is used up. Short ones, which is nearly all, never look at it. A stream of
// replies may last for ever, so it is not counted: its handler bounds what it keeps of its request.
const (
	// shortRequest is a request that is not counted, in bytes.
	shortRequest = 512
	// longRequest is one that uses up the whole budget, in bytes: a connection sends one of those at a
	// time.
	longRequest = replyBudget / replyFactor
	// replyFactor is an id of one or two bytes to a user of about sixty.
	replyFactor = 32
	// replyBudget is what the counted replies of a connection may take together, in bytes. These are
	// the bytes on the wire; while they wait there are up to three copies.
	replyBudget = 2 << 20
	// portBudget is the same for all connections.
	portBudget = 256 << 20
)

// What gzip makes of a message is at least gzipFrame bytes more than a gzipRatio-th of it (RFC 1951
// §3.2.5: 258 bytes for two bits).
const (
	gzipFrame = 18
	gzipRatio = 1032
)

// budget counts the replies of a port.
type budget struct{ port *semaphore.Weighted }

// newBudget returns the budget of a port.
func newBudget() budget { return budget{semaphore.NewWeighted(portBudget)} }

type connBudgetKey struct{}

// A connBudget is what a connection has, and its port.
type connBudget struct{ conn, port *semaphore.Weighted }

// connContext is the context of a connection with its budget in it.
func (b budget) connContext(ctx context.Context) context.Context {
	return context.WithValue(ctx, connBudgetKey{}, &connBudget{semaphore.NewWeighted(replyBudget), b.port})
}

func (b budget) wrap(method *rpc.Method, next http.Handler) http.Handler {
	if method.Streams() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var share share
		defer share.giveBack()
		size, known := complete(r)
		if r.Method == http.MethodGet { // its message is in the query
			size, known = int64(len(r.URL.RawQuery)), true
		}
		if !known {
			r.Body = &countedBody{ReadCloser: r.Body, request: r, share: &share}
		} else if err := share.take(r, size); err != nil {
			rpc.Refuse(w, r, rpc.Reason(err.Code().String()), err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// countedBody waits for the share of a request when it turns out to be long, or has ended and its
// size is known.
type countedBody struct {
	io.ReadCloser
	request *http.Request
	share   *share
	size    int64 // bytes read
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.size += int64(n)
	if err == io.EOF || b.size > longRequest {
		if err := b.share.take(b.request, b.size); err != nil {
			return n, err
		}
	}
	return n, err
}

// unpackedSize is how long a request of size bytes may be once it is unpacked.
func unpackedSize(r *http.Request, size int64) int64 {
	if !rpc.Compressed(r) {
		return size
	}
	return max(size, (size-gzipFrame)*gzipRatio)
}

// A share is what one request has of the budget of its connection.
type share struct {
	budget *connBudget
	weight int64
}

// take waits for the share of a request of size bytes, compressed or not, until the request's context
// is done. It does nothing for one that is short or has its share.
func (s *share) take(r *http.Request, size int64) *connect.Error {
	if s.weight > 0 {
		return nil
	}
	if size = unpackedSize(r, size); size <= shortRequest {
		return nil
	}
	ctx := r.Context()
	budget, ok := ctx.Value(connBudgetKey{}).(*connBudget)
	if !ok {
		return nil
	}
	weight := min(size*replyFactor, replyBudget)
	if err := budget.conn.Acquire(ctx, weight); err != nil {
		return gone(ctx, err)
	}
	// Second, so that a call that waits for it holds up its own connection alone.
	if err := budget.port.Acquire(ctx, weight); err != nil {
		budget.conn.Release(weight)
		return gone(ctx, err)
	}
	s.budget, s.weight = budget, weight
	return nil
}

// giveBack is called when the reply has been taken, but for the 4 KiB of it that package h2 keeps.
func (s *share) giveBack() {
	if s.weight > 0 {
		s.budget.port.Release(s.weight)
		s.budget.conn.Release(s.weight)
	}
}
