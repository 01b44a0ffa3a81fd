package server

import (
	"context"
	"net/http"
	"strings"

	"golang.org/x/sync/semaphore"
)

// A reply is as long as its request makes it, about replyFactor times, and is
// kept in memory until the peer takes it. So that one who asks for much and
// takes nothing does not fill the memory, the calls of one connection have a
// budget, and so have those of the port: those with long requests wait for each
// other when it is used up. Short ones, which is nearly all, never look at it. A
// stream of replies may last for ever, so it is not counted: its handler bounds
// what it keeps of its request.
const (
	// shortRequest is a request that is not counted, in bytes.
	shortRequest = 512
	// longRequest is one that uses up the whole budget, in bytes: a connection
	// sends one of those at a time.
	longRequest = replyBudget / replyFactor
	// replyFactor is an id of one or two bytes to a user of about sixty.
	replyFactor = 32
	// replyBudget is what the counted replies of a connection may take together.
	// It is the wire's bytes; while they wait there are up to three copies.
	replyBudget = 2 << 20
	// portBudget is the same for all connections.
	portBudget = 256 << 20
)

type budgetKey struct{}

// A budget is what a connection has, and its port.
type budget struct{ conn, port *semaphore.Weighted }

// withBudget is a connection's context with its budget in it.
func withBudget(ctx context.Context, port *semaphore.Weighted) context.Context {
	return context.WithValue(ctx, budgetKey{}, &budget{semaphore.NewWeighted(replyBudget), port})
}

// What gzip makes of a message is at least gzipFrame bytes more than a
// gzipRatio-th of it (RFC 1951 §3.2.5: 258 bytes for two bits).
const (
	gzipFrame = 18
	gzipRatio = 1032
)

// unpackedSize is how long a request of size bytes may be once it is unpacked.
func unpackedSize(r *http.Request, size int64) int64 {
	compressed := r.Method == http.MethodGet && strings.Contains(r.URL.RawQuery, "compression=")
	for _, name := range [...]string{"Grpc-Encoding", "Content-Encoding", "Connect-Content-Encoding"} {
		encoding := header(r, name)
		compressed = compressed || encoding != "" && encoding != "identity"
	}
	if !compressed {
		return size
	}
	return max(size, (size-gzipFrame)*gzipRatio)
}

// A share is what one request has of its budget.
type share struct {
	budget *budget
	weight int64
}

// take waits for the share of a request of size bytes, until ctx is done. It
// does nothing for one that is short or has its share.
func (s *share) take(ctx context.Context, size int64) error {
	if size <= shortRequest || s.weight > 0 {
		return nil
	}
	budget, ok := ctx.Value(budgetKey{}).(*budget)
	if !ok {
		return nil
	}
	weight := min(size*replyFactor, replyBudget)
	if err := budget.conn.Acquire(ctx, weight); err != nil {
		return err
	}
	// Second, so that who waits for it holds up their own connection alone.
	if err := budget.port.Acquire(ctx, weight); err != nil {
		budget.conn.Release(weight)
		return err
	}
	s.budget, s.weight = budget, weight
	return nil
}

// giveBack is called when the reply has been taken, but for the 4 KiB of it that
// package h2 keeps.
func (s *share) giveBack() {
	if s.weight > 0 {
		s.budget.port.Release(s.weight)
		s.budget.conn.Release(s.weight)
	}
}
