package gate

import (
	"context"
	"io"
	"net/http"

	"connectrpc.com/connect"
	"golang.org/x/sync/semaphore"

	"example.com/roster/server/rpc"
)

// A reply is about replyFactor times as long as its request, and stays in memory until the peer has
// read it. So that a caller who requests much and reads nothing cannot fill the memory, the calls of a
// connection share a budget, and so do those of the port: calls with long requests wait for each other
// once the budget is used up. Short requests, which are nearly all, are not charged. Streams of replies
// are not charged either, because they may last for ever.
const (
	// shortRequest is the maximum size of a request that is not charged, in bytes.
	shortRequest = 512
	// longRequest is the size of a request that uses up the whole budget of a connection, in bytes: a
	// connection has one of those at a time.
	longRequest = replyBudget / replyFactor
	// replyFactor is the ratio of a user, about sixty bytes, to an id, one or two bytes.
	replyFactor = 32
	// replyBudget is the maximum size of the charged replies of a connection together, in bytes on the
	// wire. While replies wait there are up to three copies of each.
	replyBudget = 2 << 20
	// portBudget is the same for all connections.
	portBudget = 256 << 20
)

// A message of n bytes has at least gzipFrame + n/gzipRatio bytes in gzip (RFC 1951 §3.2.5: 258 bytes
// for two bits).
const (
	gzipFrame = 18
	gzipRatio = 1032
)

// budget charges the replies of a port.
type budget struct{ port *semaphore.Weighted }

// newBudget returns the budget of a port.
func newBudget() budget { return budget{semaphore.NewWeighted(portBudget)} }

type connBudgetKey struct{}

// A connBudget is the budget of a connection and that of its port.
type connBudget struct{ conn, port *semaphore.Weighted }

// connContext returns a context of a connection, which carries the budget of the connection.
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

// countedBody takes the share of a request once the request turns out to be long, or at its end, when
// its size is known.
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

// unpackedSize is the maximum size, once it is unpacked, of a request of size bytes.
func unpackedSize(r *http.Request, size int64) int64 {
	if !rpc.Compressed(r) {
		return size
	}
	return max(size, (size-gzipFrame)*gzipRatio)
}

// A share is the part of the budgets that one request holds.
type share struct {
	budget *connBudget
	weight int64
}

// take acquires the share of a request of size bytes, compressed or not. It waits until the budgets
// have that much left or the request's context is done. It does nothing if the request is short or has
// its share already.
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
	// The port's budget comes second, so that a call that waits for it delays only its own connection.
	if err := budget.port.Acquire(ctx, weight); err != nil {
		budget.conn.Release(weight)
		return gone(ctx, err)
	}
	s.budget, s.weight = budget, weight
	return nil
}

// giveBack is called when the reply has been sent, except for up to 4 KiB that package h2 may hold.
func (s *share) giveBack() {
	if s.weight > 0 {
		s.budget.port.Release(s.weight)
		s.budget.conn.Release(s.weight)
	}
}
