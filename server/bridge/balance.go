package bridge

import (
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
	for conn, about := range info.ReadySCs {
		p.processes = append(p.processes, &process{conn: conn, load: loadOf(about.Address)})
	}
	return p
}

// A load is what is known of one process. It is an attribute of its address, so that it outlives the
// picker, which is made anew whenever the state of any process changes.
type load struct {
	calls        atomic.Int64 // that are running
	failures     atomic.Int32 // in a row
	ejectedUntil atomic.Int64 // in Unix nanoseconds
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

// A picker chooses the process with the fewest running calls.
type picker struct {
	processes []*process
}

// Pick implements balancer.Picker.
func (p *picker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	chosen := p.least(time.Now().UnixNano())
	chosen.calls.Add(1)
	return balancer.PickResult{SubConn: chosen.conn, Done: chosen.done}, nil
}

// least returns the process with the fewest running calls among those that are not ejected. Of equal
// ones it takes the first after a random one.
func (p *picker) least(now int64) *process {
	n := len(p.processes)
	if n == 1 {
		return p.processes[0]
	}
	start := rand.IntN(n)
	var best, any *process
	ejected := 0
	for i := range n {
		candidate := p.processes[(start+i)%n]
		if any == nil || candidate.calls.Load() < any.calls.Load() {
			any = candidate
		}
		if candidate.ejectedUntil.Load() > now {
			ejected++
		} else if best == nil || candidate.calls.Load() < best.calls.Load() {
			best = candidate
		}
	}
	if best == nil || 2*ejected > n {
		return any // when most processes fail, the fault is not theirs
	}
	return best
}

// done records how a call ended.
func (p *process) done(info balancer.DoneInfo) {
	p.calls.Add(-1)
	switch status.Code(info.Err) {
	case codes.Unavailable, codes.Internal, codes.Unknown:
		if p.failures.Add(1) >= ejectAfter {
			p.ejectedUntil.Store(time.Now().Add(ejectFor).UnixNano())
		}
	case codes.Canceled, codes.DeadlineExceeded:
		// The caller's doing as likely as the process's.
	default:
		p.failures.Store(0)
	}
}

// loads keeps the load of each address of an upstream.
type loads struct {
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
		l.byAddress[address] = new(load)
	}
	return l.byAddress[address]
}
