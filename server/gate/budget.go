package gate

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"sync"

	"connectrpc.com/connect"
	"golang.org/x/sync/semaphore"

	"example.com/roster/server/rpc"
)

// A reply is about replyFactor times as long as its request, and stays in memory until the peer has
// read it. So that a caller who requests much and reads nothing cannot fill the memory, the calls of a
// connection share a budget, and so do those of the port: calls with long requests wait for each other
// once the budget is used up. Short requests, which are nearly all, are not charged.
//
// The request of a stream of replies is charged as well, until the stream ends, with its own size: the
// replies of a stream are bounded by its handler. A method whose policy has OwnBudget is not charged at
// all.
const (
	// shortRequest is the maximum size of a request that is not charged, in bytes.
	shortRequest = 128
	// replyFactor is the ratio of a user, about sixty bytes, to an id, one or two bytes.
	replyFactor = 32
	// replyBudget is the maximum size of the charged replies of a connection together, in bytes on the
	// wire. While replies wait there are up to three copies of each.
	replyBudget = 2 << 20
	// portBudget is the same for all connections. A call that does not find what it needs there gets it
	// from portReserve, of which a caller may hold callerReserve and a connection replyBudget: so
	// connections that use up the budget and never read their replies do not delay everybody else.
	portBudget    = 48 << 20
	portReserve   = 16 << 20
	callerReserve = 8 << 20
)

// A message of n bytes has at least gzipFrame + n/gzipRatio bytes in gzip (RFC 1951 §3.2.5: 258 bytes
// for two bits).
const (
	gzipFrame = 18
	gzipRatio = 1032
)

// budget charges the replies of a port.
type budget struct {
	port    *semaphore.Weighted
	reserve *limit
}

// newBudget returns the budget of a port.
func newBudget() budget {
	return budget{semaphore.NewWeighted(portBudget), newLimit(portReserve, portReserve, callerReserve, replyBudget)}
}

type connBudgetKey struct{}

// A connBudget is the budget of a connection and that of its port.
type connBudget struct {
	conn *semaphore.Weighted
	budget
}

// connContext returns a context of a connection, which carries the budget of the connection.
func (b budget) connContext(ctx context.Context) context.Context {
	return context.WithValue(ctx, connBudgetKey{}, &connBudget{semaphore.NewWeighted(replyBudget), b})
}

func (b budget) wrap(method *rpc.Method, next http.Handler) http.Handler {
	if method.ClientStreams {
		return next
	}
	most := int64(method.MessageLimit())
	factor := int64(replyFactor)
	if method.ServerStreams {
		factor = 1
	}
	if method.OwnBudget {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rpc.From(r.Context()).RequestBytes = requestSize(r, most)
			next.ServeHTTP(w, r)
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var share share
		defer share.giveBack()
		if err := share.take(r, requestSize(r, most), factor); err != nil {
			rpc.Refuse(w, r, rpc.Reason(err.Code().String()), err)
			return
		}
		if share.weight > 0 || r.ProtoMajor == 1 {
			defer boundReply(w, r)()
		}
		next.ServeHTTP(w, r)
	})
}

// requestSize is the size of the message of a request once it is decompressed, in bytes, up to a
// message of most bytes. The body gate has counted it; the message of a GET is in the query, and
// counts as the most that it can be.
func requestSize(r *http.Request, most int64) int64 {
	if r.Method == http.MethodGet {
		size := int64(len(r.URL.RawQuery))
		if rpc.Compressed(r) {
			size = max(size, min((size-gzipFrame)*gzipRatio, most))
		}
		return size
	}
	if body, ok := r.Body.(*wholeBody); ok {
		return body.unpacked
	}
	size, _ := complete(r) // or else Connect answers with the error of the body
	return size
}

// unpackers are gzip readers, of 40 KB each.
var unpackers = sync.Pool{New: func() any { return new(gzip.Reader) }}

// countUnpacked is how many bytes a compressed body has decompressed, up to a message of most bytes. A
// body that is not gzip counts as what could be read of it: Connect answers with the error.
func countUnpacked(body []byte, enveloped bool, most int64) int64 {
	if enveloped {
		if len(body) < rpc.EnvelopeBytes || body[0]&1 == 0 {
			return 0 // this message is not compressed although the request says that messages may be
		}
		body = body[rpc.EnvelopeBytes:]
	}
	unpacker := unpackers.Get().(*gzip.Reader)
	defer unpackers.Put(unpacker)
	if err := unpacker.Reset(bytes.NewReader(body)); err != nil {
		return 0
	}
	n, _ := io.CopyN(io.Discard, unpacker, most)
	return n
}

// A share is the part of the budgets that one request holds.
type share struct {
	budget   *connBudget
	weight   int64
	reserved claim // in place of a part of the port's budget
}

// take acquires the share of a request of size bytes, once unpacked. It waits until the budgets have
// that much left or the request's context is done. It does nothing if the request is short.
func (s *share) take(r *http.Request, size, factor int64) *connect.Error {
	if size <= shortRequest {
		return nil
	}
	ctx := r.Context()
	budget, ok := ctx.Value(connBudgetKey{}).(*connBudget)
	if !ok {
		return nil
	}
	weight := min(size*factor, replyBudget)
	if err := budget.conn.Acquire(ctx, weight); err != nil {
		return gone(ctx, err)
	}
	// The port's budget comes second, so that a call that waits for it delays only its own connection.
	if !budget.port.TryAcquire(weight) {
		if s.reserved, ok = budget.reserve.take(r, weight); !ok {
			if err := budget.port.Acquire(ctx, weight); err != nil {
				budget.conn.Release(weight)
				return gone(ctx, err)
			}
		}
	}
	s.budget, s.weight = budget, weight
	return nil
}

// giveBack is called when the reply has been sent, except for up to 4 KiB that package h2 may hold.
func (s *share) giveBack() {
	if s.weight == 0 {
		return
	}
	if s.reserved.limit != nil {
		s.reserved.giveBack()
	} else {
		s.budget.port.Release(s.weight)
	}
	s.budget.conn.Release(s.weight)
}
