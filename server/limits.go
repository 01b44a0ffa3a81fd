package server

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"

	"example.com/roster/server/api"
	"example.com/roster/server/call"
)

const (
	// shedRetry is when a call that found the server full may come again.
	shedRetry = 100 * time.Millisecond
	// rateCallers is how many callers have their rate remembered. One who is
	// forgotten starts with a full burst.
	rateCallers = 1 << 16
	// A refusal for making too many calls waits before it is sent, so that who
	// asks again at once does so less often: for about rateHold, and rateHoldEach
	// for each one that waits already, so that a flood waits for a second and a
	// caller who was a little too quick is told soon. No more than rateHeld wait
	// at a time, some 40 MB of them.
	rateHold     = 50 * time.Millisecond
	rateHoldEach = 250 * time.Microsecond
	rateHeld     = 4096
)

// capped gives each call of one message and one reply a deadline, the server's
// own, if the client has no earlier one. Streams may last.
func capped(route api.Route, limit time.Duration, next http.Handler) http.Handler {
	if limit <= 0 || route.ClientStreams || route.ServerStreams {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := call.From(r.Context()); c != nil {
			c.Limit(c.Start.Add(limit))
		}
		next.ServeHTTP(w, r)
	})
}

// A shedder refuses the calls that are too many at a time. They could wait, but
// then those that come when the server is slow would all be late, and their
// callers gone by the time they are answered.
type shedder struct {
	running atomic.Int64
	most    int64
	why     *connect.Error
	refuser refuser
}

func newShedder(config Config, refuser refuser) *shedder {
	return &shedder{
		most:    int64(config.MaxConcurrentCalls),
		refuser: refuser,
		// UNAVAILABLE and not RESOURCE_EXHAUSTED: it is not this caller who does
		// too much, nothing was done, and clients and proxies may try elsewhere.
		why: retryLater(connect.CodeUnavailable, shedRetry, fmt.Errorf(
			"this server answers %d calls, the most that it may at a time (--max-concurrent-calls): call again later", config.MaxConcurrentCalls)),
	}
}

// shed bounds the calls of a route, but for those that tell how the server is:
// they are few, cheap, and wanted most when it has too much to do.
func (s *shedder) shed(route api.Route, next http.Handler) http.Handler {
	if route.Vital {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.running.Add(-1)
		if s.running.Add(1) > s.most {
			s.refuser.refuse(w, r, s.why)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// rates bounds how often one caller may call.
type rates struct {
	callers *otter.Cache[caller, *rate.Limiter]
	fill    func(caller) *rate.Limiter
	held    atomic.Int64
	why     *connect.Error
	strange *connect.Error
	refuser refuser
}

// A caller is who has a rate of its own: an identity, or the address of who has
// none.
type caller struct {
	identity string
	address  netip.Addr
	refused  bool // counts the calls of the address that access refused
}

// newRates returns nil if there is no such limit.
func newRates(config Config, refuser refuser) *rates {
	if config.RateLimit <= 0 {
		return nil
	}
	burst := config.RateBurst
	if burst <= 0 {
		burst = max(1, int(math.Ceil(config.RateLimit)))
	}
	again := time.Duration(float64(time.Second) / config.RateLimit)
	return &rates{
		callers: otter.Must(&otter.Options[caller, *rate.Limiter]{MaximumSize: rateCallers}),
		fill:    func(caller) *rate.Limiter { return rate.NewLimiter(rate.Limit(config.RateLimit), burst) },
		why: retryLater(connect.CodeResourceExhausted, again, fmt.Errorf(
			"more than %v calls a second, the most that one token, certificate or address may make (--rate-limit, --rate-burst): slow down", config.RateLimit)),
		strange: retryLater(connect.CodeResourceExhausted, again, fmt.Errorf(
			"more than %v calls a second from this address have been refused for their token (--rate-limit, --rate-burst): correct it, and slow down", config.RateLimit)),
		refuser: refuser,
	}
}

// allow takes one call of a caller, if there is one left.
func (l *rates) allow(who caller, now time.Time) bool { return l.of(who).AllowN(now, 1) }

func (l *rates) of(who caller) *rate.Limiter {
	if limiter, ok := l.callers.GetIfPresent(who); ok {
		return limiter
	}
	limiter, _ := l.callers.ComputeIfAbsent(who, func() (*rate.Limiter, bool) { return l.fill(who), false })
	return limiter
}

// known bounds callers as access knows them.
func (l *rates) known(next http.Handler) http.Handler {
	if l == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := call.From(r.Context())
		who := caller{}
		if c != nil {
			who.identity = c.Identity
		}
		if who.identity == "" {
			who.address = addressOf(r)
		}
		if !l.allow(who, startOf(c)) {
			l.refuse(w, r, l.why)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// admitStranger bounds how many callers of an address are told that they are not
// known. It reports false if this one is refused for being too many.
func (l *rates) admitStranger(w http.ResponseWriter, r *http.Request) bool {
	if l == nil || l.allow(caller{address: addressOf(r), refused: true}, startOf(call.From(r.Context()))) {
		return true
	}
	l.refuse(w, r, l.strange)
	return false
}

// refuse makes the caller wait for it.
func (l *rates) refuse(w http.ResponseWriter, r *http.Request, why *connect.Error) {
	defer l.held.Add(-1)
	if held := l.held.Add(1); held <= rateHeld {
		hold := rateHold + time.Duration(held)*rateHoldEach
		// Not the same for all: those that came together would come again together.
		timer := time.NewTimer(hold/2 + rand.N(hold))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
	}
	l.refuser.refuse(w, r, why)
}

// addressOf is whom a request comes from as far as its address tells: one of
// IPv4, or a network of IPv6, which is what a subscriber gets (RFC 6177).
func addressOf(r *http.Request) netip.Addr {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address := remote.Addr().Unmap()
	if address.Is4() {
		return address
	}
	network, err := address.WithZone("").Prefix(64)
	if err != nil {
		return netip.Addr{}
	}
	return network.Addr()
}

// retryLater is an error that says when to call again. It is made once and
// never changed, so all refusals may share it.
func retryLater(code connect.Code, after time.Duration, why error) *connect.Error {
	err := connect.NewError(code, why)
	detail, failed := connect.NewErrorDetail(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	if failed != nil {
		panic(errors.Join(errors.New("a detail of an error that is always the same"), failed))
	}
	err.AddDetail(detail)
	return err
}
