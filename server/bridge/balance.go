package bridge

import (
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"
)

// balancing is the name under which the bridge's balancer is registered with grpc-go.
const balancing = "roster_least_loaded"

// serviceConfig selects the balancer, and has the client follow grpc.health.v1 of each process. A
// process that has no such service counts as healthy (gRPC's "Client-Side Health Checking"). See health.go.
const serviceConfig = `{"loadBalancingConfig":[{"` + balancing + `":{}}],"healthCheckConfig":{"serviceName":""}}`

func init() {
	balancer.Register(healthBuilder{base.NewBalancerBuilder(balancing, new(processes), base.Config{HealthCheck: true})})
}

// A process that fails ejectAfter calls in a row gets none for ejectFor, as long as at least half of the
// others do get calls. The next call after that decides again.
const (
	ejectAfter = 5
	ejectFor   = 10 * time.Second
)

// processes builds the pickers of all upstreams. It has no state: see load.
type processes struct{}

// Build implements base.PickerBuilder. It is called whenever a process becomes ready or stops being so.
func (*processes) Build(info base.PickerBuildInfo) balancer.Picker {
	if len(info.ReadySCs) == 0 {
		return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	p := &picker{}
	var ready []*load
	for conn, about := range info.ReadySCs {
		load := loadOf(about.Address)
		p.processes, ready = append(p.processes, &process{conn: conn, load: load}), append(ready, load)
	}
	ready[0].totals.are(ready)
	return p
}

// A load is what is known of one process. It is an attribute of its address, so that it outlives the
// picker, which is made anew whenever the state of any process changes.
type load struct {
	calls        atomic.Int64 // that are running
	chosen       atomic.Int64 // when it got its last call, in Unix nanoseconds
	failures     atomic.Int32 // in a row
	ejectedUntil atomic.Int64 // in Unix nanoseconds
	totals       *totals      // of the upstream; nil counts nothing
}

type loadKey struct{}

func loadOf(address resolver.Address) *load {
	if l, ok := address.Attributes.Value(loadKey{}).(*load); ok {
		return l
	}
	return new(load)
}

type process struct {
	conn balancer.SubConn
	*load
}

// A picker chooses the process with the fewest running calls; of equal ones, that which has waited longest
// for one. Chance instead would give some of eight equal processes a tenth more calls than others.
type picker struct {
	processes []*process
}

// Pick implements balancer.Picker.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	now := time.Now().UnixNano()
	call := callOf(info.Ctx)
	var refused *load
	if call != nil {
		refused = call.picked
	}
	chosen := p.least(now, refused)
	if call != nil {
		call.picked = chosen.load
	}
	chosen.calls.Add(1)
	chosen.chosen.Store(now)
	chosen.totals.attempt()
	deadline, _ := info.Ctx.Deadline()
	return balancer.PickResult{SubConn: chosen.conn, Done: func(info balancer.DoneInfo) { chosen.done(info, deadline) }}, nil
}

// least returns the process that is to get the next call, among those that are not ejected. It begins with
// a random one, so that not all bridges that start at a time call the same process first. A process that
// has refused the call gets it again only if there is no other.
func (p *picker) least(now int64, refused *load) *process {
	n := len(p.processes)
	if n == 1 {
		return p.processes[0]
	}
	start := rand.IntN(n)
	var best, any *process
	ejected := 0
	for i := range n {
		candidate := p.processes[(start+i)%n]
		if candidate.load == refused {
			continue
		}
		if any == nil || candidate.before(any) {
			any = candidate
		}
		if candidate.ejectedUntil.Load() > now {
			ejected++
		} else if best == nil || candidate.before(best) {
			best = candidate
		}
	}
	if best == nil || 2*ejected > n {
		return any // when most processes fail, the fault is not theirs
	}
	return best
}

// before reports whether the process is to get a call rather than another one.
func (p *process) before(other *process) bool {
	calls, others := p.calls.Load(), other.calls.Load()
	return calls < others || calls == others && p.chosen.Load() < other.chosen.Load()
}

// aboutDeadline is how long before the deadline of a call its caller may cancel it because of that. The
// bridge learns of the deadline later than the caller has set it, and the two clocks begin then.
const aboutDeadline = 50 * time.Millisecond

// done records how a call ended. A call that was not answered before its deadline counts as a failure: a
// process that hangs keeps its connection, and nothing else tells. That some callers are too impatient
// does no harm, since the process answers others in between.
func (p *process) done(info balancer.DoneInfo, deadline time.Time) {
	p.calls.Add(-1)
	code := status.Code(info.Err)
	if code == codes.Canceled && !deadline.IsZero() && time.Until(deadline) < aboutDeadline {
		code = codes.DeadlineExceeded
	}
	switch code {
	case codes.Unavailable, codes.Internal, codes.Unknown, codes.DeadlineExceeded:
		p.totals.fail()
		if p.failures.Add(1) >= ejectAfter {
			now := time.Now()
			if p.ejectedUntil.Swap(now.Add(ejectFor).UnixNano()) <= now.UnixNano() {
				p.totals.eject()
			}
		}
	case codes.Canceled:
		// The caller's doing.
	default:
		p.failures.Store(0)
	}
}

// forgive forgets the failures. A process that is killed fails all its calls, and is left alone for that;
// the one that is started in its place has nothing to do with it.
func (l *load) forgive() {
	l.failures.Store(0)
	l.ejectedUntil.Store(0)
}

// loads keeps the load of each address of an upstream.
type loads struct {
	totals    totals
	mu        sync.Mutex
	byAddress map[string]*load
}

// of returns the load of an address.
func (l *loads) of(address string) *load {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byAddress == nil {
		l.byAddress = make(map[string]*load)
	}
	if l.byAddress[address] == nil {
		l.byAddress[address] = &load{totals: &l.totals}
	}
	return l.byAddress[address]
}

// keep forgets the loads of all other addresses. Calls that still run there have theirs.
func (l *loads) keep(addresses []resolver.Address) {
	known := make(map[*load]bool)
	for _, address := range addresses {
		known[loadOf(address)] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.byAddress, func(_ string, load *load) bool { return !known[load] })
}
