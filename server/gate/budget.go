package gate

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"connectrpc.com/connect"
	"golang.org/x/sync/semaphore"

	"example.com/roster/internal/inflate"
	"example.com/roster/server/rpc"
)

// A reply is many times as long as its request, and stays in memory until the peer has read it. So that
// a caller who requests much and reads nothing cannot fill the memory, the calls of a connection share a
// budget, and so do those of the port: calls with long replies wait for each other once the budget is
// used up. Calls with short replies, which are nearly all, are not charged.
//
// A call is charged before its request is decoded, by the largest ratio of a reply to its request that
// there has been, and from when its users have been looked up by the size of its reply.
//
// A method whose policy has OwnReply is charged nothing before its handler, which asks for what the reply
// needs before it makes it.
//
// The request of a stream of replies is charged as well, until the stream ends, with its own size: the
// replies of a stream are bounded by its handler. A method whose policy has OwnBudget is not charged at
// all.
const (
	// shortReply is the maximum size of a reply that is not charged, in bytes.
	shortReply = 8 << 10
	// replyRatio is how many times as long as its request a reply is taken for until there has been a
	// longer one: that of a user, about sixty bytes, to an id, one or two bytes.
	replyRatio = 32
	// replyBudget is the maximum size of the charged replies of a connection together, in bytes on the
	// wire. It is that of one message. While replies wait there are up to two copies of each.
	replyBudget = rpc.MaxMessageBytes
	// portBudget is the same for all connections. A call that does not find what it needs there gets it
	// from portReserve, of which a caller may hold callerReserve and a connection replyBudget: so
	// connections that use up the budget and never read their replies do not delay everybody else.
	portBudget    = 20 << 20
	portReserve   = 12 << 20
	callerReserve = 6 << 20
)

// budget charges the replies of a port.
type budget struct {
	port    *semaphore.Weighted
	reserve *limit
	ratio   *atomic.Int64 // the largest that there has been, of a reply to its request
}

// newBudget returns the budget of a port.
func newBudget() budget {
	b := budget{semaphore.NewWeighted(portBudget), newLimit(portReserve, portReserve, callerReserve, replyBudget), new(atomic.Int64)}
	b.ratio.Store(replyRatio)
	return b
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
	if method.OwnBudget {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rpc.From(r.Context()).RequestBytes = requestSize(r, most)
			next.ServeHTTP(w, r)
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		share := shares.Get().(*share)
		defer share.end()
		if method.OwnReply {
			share.own(r)
		} else if err := share.take(r, requestSize(r, most), method.ServerStreams); err != nil {
			rpc.Refuse(w, r, rpc.Reason(err.Code().String()), err)
			return
		}
		if share.weight > 0 || method.OwnReply || r.ProtoMajor == 1 {
			defer boundReply(w, r)()
		}
		if !method.ServerStreams {
			call := rpc.From(r.Context())
			call.Reply = share
			defer func() { call.Reply = nil }()
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
			size = max(size, min(inflate.Most(size), most))
		}
		return size
	}
	if body, ok := r.Body.(*wholeBody); ok {
		return body.unpacked
	}
	size, _ := complete(r) // or else Connect answers with the error of the body
	return size
}

// unpackers are *inflate.Reader by format, of 40 KB each.
var unpackers [len(inflate.Formats)]sync.Pool

var errLong = errors.New("the message is as long as one may be, or longer")

// countUnpacked is how many bytes a body has decompressed, up to a message of most bytes. A body that is
// malformed counts as what could be read of it: Connect answers with the error.
func countUnpacked(body []byte, compression string, enveloped bool, most int64) int64 {
	format, ok := inflate.ParseFormat(compression)
	if !ok {
		return 0 // Connect refuses it
	}
	if enveloped {
		if len(body) < rpc.EnvelopeBytes || body[0]&1 == 0 {
			return 0 // this message is not compressed although the request says that messages may be
		}
		body = body[rpc.EnvelopeBytes:]
	}
	unpacker, ok := unpackers[format].Get().(*inflate.Reader)
	if !ok {
		unpacker = inflate.New(format, rpc.MaxMessageBytes, func() error { return errLong })
	}
	defer unpackers[format].Put(unpacker)
	if err := unpacker.Reset(bytes.NewReader(body)); err != nil {
		return 0
	}
	n, _ := io.CopyN(io.Discard, unpacker, most)
	return n
}

// A share is the part of the budgets that one request holds.
type share struct {
	request  *http.Request
	size     int64 // of its message
	alone    bool  // the size says nothing of that of the reply
	budget   *connBudget
	weight   int64
	reserved claim // in place of a part of the port's budget
}

// shares spares an allocation for each call.
var shares = sync.Pool{New: func() any { return new(share) }}

// take acquires the share of a request of size bytes, once unpacked. It waits until the budgets have
// that much left or the request's context is done. It does nothing if the reply is short.
func (s *share) take(r *http.Request, size int64, stream bool) *connect.Error {
	budget, ok := r.Context().Value(connBudgetKey{}).(*connBudget)
	if !ok {
		return nil
	}
	s.request, s.size, s.budget = r, size, budget
	weight := size
	if !stream {
		weight *= budget.ratio.Load()
	}
	if weight <= shortReply && !(stream && size > shortStream) {
		return nil
	}
	return s.acquire(min(weight, replyBudget))
}

// own makes the share that of a request whose handler asks for the size of its reply, however short the
// request is. It acquires nothing yet.
func (s *share) own(r *http.Request) {
	if budget, ok := r.Context().Value(connBudgetKey{}).(*connBudget); ok {
		s.request, s.budget, s.alone = r, budget, true
	}
}

// shortStream is the maximum size of the request of a stream that is not charged, in bytes.
const shortStream = 128

func (s *share) acquire(weight int64) *connect.Error {
	ctx := s.request.Context()
	if err := s.budget.conn.Acquire(ctx, weight); err != nil {
		return gone(ctx, err)
	}
	// The port's budget comes second, so that a call that waits for it delays only its own connection.
	if !s.budget.port.TryAcquire(weight) {
		var ok bool
		if s.reserved, ok = s.budget.reserve.take(s.request, weight); !ok {
			if err := s.budget.port.Acquire(ctx, weight); err != nil {
				s.budget.conn.Release(weight)
				return gone(ctx, err)
			}
		}
	}
	s.weight = weight
	return nil
}

// Hold implements rpc.ReplyHolder: it charges the reply's own size, which is known from here on.
func (s *share) Hold(size int) *connect.Error {
	weight := min(int64(size), replyBudget)
	if s.budget == nil || weight <= max(shortReply, s.weight) {
		s.shrink(weight)
		return nil
	}
	// Longer than expected, and so is the next one.
	if ratio := (weight + s.size - 1) / max(1, s.size); !s.alone && ratio > s.budget.ratio.Load() {
		s.budget.ratio.Store(ratio)
	}
	s.giveBack() // before it waits for more, so that calls do not wait for each other for ever
	return s.acquire(weight)
}

// shrink returns what of the share is more than weight.
func (s *share) shrink(weight int64) {
	if more := s.weight - weight; more > 0 && s.reserved.limit == nil {
		s.budget.port.Release(more)
		s.budget.conn.Release(more)
		s.weight = weight
	}
}

// end is called when the reply has been sent, except for what package h2 holds, which it charges itself.
func (s *share) end() {
	s.giveBack()
	*s = share{}
	shares.Put(s)
}

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
	s.weight, s.reserved = 0, claim{}
}
