package gate

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

	"example.com/roster/server/rpc"
)

const (
	// rateCallers is how many callers have their rate remembered. One who is forgotten starts with a
	// full burst.
	rateCallers = 1 << 16
	// A refusal for calling too often waits before it is sent, so that a client which calls again at
	// once does so less often: for about rateHold, and rateHoldEach for each refusal that waits
	// already, so that a flood waits for a second and a caller who was a little too quick is told
	// soon. No more than rateHeld wait at a time, some 40 MB of them.
	rateHold     = 50 * time.Millisecond
	rateHoldEach = 250 * time.Microsecond
	rateHeld     = 4096
)

// RateConfig bounds how often one caller may call.
type RateConfig struct {
	// PerSecond is how many calls a second one caller may make, known by token or certificate, else by
	// address; 0 is no limit. Burst is how many of them at once; 0 means those of a second.
	PerSecond float64
	Burst     int
}

// rate bounds how often one caller may call. nil is no bound.
type rateLimit struct {
	callers         *otter.Cache[caller, *rate.Limiter]
	fill            func(caller) *rate.Limiter
	held            atomic.Int64
	why             *connect.Error
	unauthenticated *connect.Error
}

// A caller is who has a rate of its own: an identity, or the address of who has
// none.
type caller struct {
	identity string
	address  netip.Addr
	refused  bool // counts the calls of the address that access refused
}

// newRate returns nil if there is no such limit.
func newRate(config RateConfig) *rateLimit {
	if config.PerSecond <= 0 {
		return nil
	}
	burst := config.Burst
	if burst <= 0 {
		burst = max(1, int(math.Ceil(config.PerSecond)))
	}
	again := time.Duration(float64(time.Second) / config.PerSecond)
	return &rateLimit{
		callers: otter.Must(&otter.Options[caller, *rate.Limiter]{MaximumSize: rateCallers}),
		fill:    func(caller) *rate.Limiter { return rate.NewLimiter(rate.Limit(config.PerSecond), burst) },
		why: retryLater(connect.CodeResourceExhausted, again, fmt.Errorf(
			"more than %v calls a second, the most that one token, certificate or address may make (--rate-limit, --rate-burst): slow down", config.PerSecond)),
		unauthenticated: retryLater(connect.CodeResourceExhausted, again, fmt.Errorf(
			"more than %v calls a second from this address have been refused for their token (--rate-limit, --rate-burst): correct it, and slow down", config.PerSecond)),
	}
}

// allow takes one call of a caller, if there is one left.
func (l *rateLimit) allow(who caller, now time.Time) bool { return l.of(who).AllowN(now, 1) }

func (l *rateLimit) of(who caller) *rate.Limiter {
	if limiter, ok := l.callers.GetIfPresent(who); ok {
		return limiter
	}
	limiter, _ := l.callers.ComputeIfAbsent(who, func() (*rate.Limiter, bool) { return l.fill(who), false })
	return limiter
}

// wrap bounds callers as access has identified them.
func (l *rateLimit) wrap(_ *rpc.Method, next http.Handler) http.Handler {
	if l == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := rpc.From(r.Context())
		by := caller{identity: c.Identity}
		if by.identity == "" {
			by.address = addressOf(r)
		}
		if !l.allow(by, c.Start) {
			l.refuse(w, r, l.why)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// admitUnauthenticated bounds how many calls of an address are told that their token is missing or
// wrong. It reports false if it has refused this one for being too many.
func (l *rateLimit) admitUnauthenticated(w http.ResponseWriter, r *http.Request) bool {
	if l == nil || l.allow(caller{address: addressOf(r), refused: true}, rpc.From(r.Context()).Start) {
		return true
	}
	l.refuse(w, r, l.unauthenticated)
	return false
}

// refuse makes the caller wait for it.
func (l *rateLimit) refuse(w http.ResponseWriter, r *http.Request, why *connect.Error) {
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
	rpc.Refuse(w, r, rpc.ReasonResourceExhausted, why)
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
