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
	// rateCallers is the number of callers whose rate is remembered. A caller that is forgotten starts
	// again with a full burst.
	rateCallers = 1 << 16
	// A refusal for calling too often is delayed, to slow down clients that call again at once: by
	// about rateHold, plus rateHoldEach for each refusal that is already waiting. So a flood waits for
	// a second, and a caller that was slightly over its rate hears soon. At most rateHeld refusals
	// wait at a time, about 40 MB of them.
	rateHold     = 50 * time.Millisecond
	rateHoldEach = 250 * time.Microsecond
	rateHeld     = 4096
)

// RateConfig configures how often one caller may call.
type RateConfig struct {
	// PerSecond is the maximum number of calls per second of one caller, identified by token or
	// certificate, else by address; 0 is no limit. Burst is the maximum at once; 0 means PerSecond,
	// rounded up.
	PerSecond float64
	Burst     int
}

// rateLimit bounds how often one caller may call. A nil rateLimit is no bound.
type rateLimit struct {
	callers         *otter.Cache[caller, *rate.Limiter]
	fill            func(caller) *rate.Limiter
	held            atomic.Int64
	why             *connect.Error
	unauthenticated *connect.Error
}

// A caller is the key of a rate: an identity, or the address of unauthenticated callers.
type caller struct {
	identity string
	address  netip.Addr
	refused  bool // the key of the refusals of access for this address, not of its calls
}

// newRate returns nil if config has no limit.
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

// allow reports whether the rate of a caller permits one more call, and counts it.
func (l *rateLimit) allow(by caller, now time.Time) bool { return l.of(by).AllowN(now, 1) }

func (l *rateLimit) of(by caller) *rate.Limiter {
	if limiter, ok := l.callers.GetIfPresent(by); ok {
		return limiter
	}
	limiter, _ := l.callers.ComputeIfAbsent(by, func() (*rate.Limiter, bool) { return l.fill(by), false })
	return limiter
}

// wrap limits the rate of callers, which the gate access has identified.
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

// admitUnauthenticated limits how often an address is told that its token is missing or wrong. It
// reports false if it has refused the call for exceeding that.
func (l *rateLimit) admitUnauthenticated(w http.ResponseWriter, r *http.Request) bool {
	if l == nil || l.allow(caller{address: addressOf(r), refused: true}, rpc.From(r.Context()).Start) {
		return true
	}
	l.refuse(w, r, l.unauthenticated)
	return false
}

// refuse answers with an error, after a delay: see rateHold.
func (l *rateLimit) refuse(w http.ResponseWriter, r *http.Request, why *connect.Error) {
	defer l.held.Add(-1)
	if held := l.held.Add(1); held <= rateHeld {
		hold := rateHold + time.Duration(held)*rateHoldEach
		// The delay is random, or callers that came together would come back together.
		timer := time.NewTimer(hold/2 + rand.N(hold))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
	}
	rpc.Refuse(w, r, rpc.ReasonResourceExhausted, why)
}

// addressOf is the address that a request is attributed to.
func addressOf(r *http.Request) netip.Addr {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return rpc.Network(remote.Addr())
}

// retryLater returns an error with a RetryInfo. It is created once and never changed, so that all
// refusals can share it.
func retryLater(code connect.Code, after time.Duration, why error) *connect.Error {
	err := connect.NewError(code, why)
	detail, failed := connect.NewErrorDetail(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	if failed != nil {
		panic(errors.Join(errors.New("a detail of an error that is always the same"), failed))
	}
	err.AddDetail(detail)
	return err
}
