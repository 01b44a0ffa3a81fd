package bridge

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"
)

func newPicker(n int) *picker {
	p := &picker{}
	for range n {
		p.processes = append(p.processes, &process{load: new(load)})
	}
	return p
}

func TestCallsGoToTheLeastLoadedProcess(t *testing.T) {
	p := newPicker(8)
	for range 8_000 {
		if _, err := p.Pick(balancer.PickInfo{Ctx: t.Context()}); err != nil {
			t.Fatal(err)
		}
	}
	for i, process := range p.processes {
		if n := process.calls.Load(); n != 1_000 {
			t.Errorf("process %d has %d calls of 8,000", i, n)
		}
	}
}

// Calls that end before the next one begins go to each process in turn.
func TestShortCallsAreSpreadEvenly(t *testing.T) {
	p := newPicker(8)
	counts := make(map[*process]int)
	for range 8_000 {
		result, err := p.Pick(balancer.PickInfo{Ctx: t.Context()})
		if err != nil {
			t.Fatal(err)
		}
		for _, process := range p.processes {
			if process.calls.Load() == 1 {
				counts[process]++
			}
		}
		result.Done(balancer.DoneInfo{})
	}
	for process, n := range counts {
		if n < 990 || n > 1_010 {
			t.Errorf("a process has %d calls of 8,000: %v", n, process)
		}
	}
}

func TestAProcessThatFailsIsLeftAloneForAWhile(t *testing.T) {
	p := newPicker(3)
	bad := p.processes[0]
	failed := balancer.DoneInfo{Err: status.Error(codes.Unavailable, "no")}
	for range ejectAfter {
		bad.calls.Add(1)
		bad.done(failed, time.Time{})
	}
	now := time.Now().UnixNano()
	for range 1_000 {
		if p.least(now, nil) == bad {
			t.Fatal("it got a call")
		}
	}
	later := now + int64(ejectFor) + 1
	for range 100 {
		p.processes[1].calls.Add(1)
		p.processes[2].calls.Add(1)
	}
	if p.least(later, nil) != bad {
		t.Error("it gets no call again")
	}
	// A success clears it.
	bad.calls.Add(1)
	bad.done(balancer.DoneInfo{}, time.Time{})
	if bad.failures.Load() != 0 {
		t.Error("the failures are still counted")
	}
	// If most processes fail, all get calls.
	for _, process := range p.processes[:2] {
		process.ejectedUntil.Store(later * 2)
	}
	chosen := make(map[*process]bool)
	for _, process := range p.processes {
		process.calls.Store(0)
	}
	for range 1_000 {
		chosen[p.least(later, nil)] = true
	}
	if len(chosen) != 3 {
		t.Error("not all get calls when most fail")
	}
}

func TestACancelledCallIsNoFailure(t *testing.T) {
	p := newPicker(1).processes[0]
	for range 2 * ejectAfter {
		for _, deadline := range []time.Time{{}, time.Now().Add(time.Minute)} {
			p.calls.Add(1)
			p.done(balancer.DoneInfo{Err: status.Error(codes.Canceled, "")}, deadline)
		}
	}
	if p.failures.Load() != 0 || p.calls.Load() != 0 {
		t.Error("it counts")
	}
}

// A process that hangs keeps its connection: that no call is answered in time is all that tells.
func TestAProcessThatHangsIsLeftAlone(t *testing.T) {
	for name, code := range map[string]codes.Code{"the bridge sees the deadline first": codes.DeadlineExceeded, "the caller does": codes.Canceled} {
		t.Run(name, func(t *testing.T) {
			p := newPicker(3)
			bad := p.processes[0]
			for range ejectAfter {
				bad.calls.Add(1)
				bad.done(balancer.DoneInfo{Err: status.Error(code, "")}, time.Now())
			}
			for range 100 {
				if p.least(time.Now().UnixNano(), nil) == bad {
					t.Fatal("it got a call")
				}
			}
		})
	}
}

// grpc-go asks again for a call that a process has refused. It goes to another one, even if that has more
// calls, and to the same only if there is no other.
func TestARefusedCallGoesToAnotherProcess(t *testing.T) {
	p := newPicker(2)
	p.processes[1].calls.Add(10)
	for _, want := range []*process{p.processes[1], p.processes[0]} {
		c := new(call)
		ctx := context.WithValue(t.Context(), callKey{}, c)
		for _, want := range []*process{p.processes[0], want} {
			result, err := p.Pick(balancer.PickInfo{Ctx: ctx})
			if err != nil {
				t.Fatal(err)
			}
			if c.picked != want.load {
				t.Error("the wrong process was chosen")
			}
			result.Done(balancer.DoneInfo{Err: status.Error(codes.Canceled, "")})
		}
		p.processes = p.processes[:1]
	}
}

// A host whose addresses change all the time leaves nothing behind.
func TestTheLoadsOfFormerAddressesAreForgotten(t *testing.T) {
	a := newAddresses([]Endpoint{{host: "processes.test", port: "1"}})
	var now int
	a.lookUp = func(context.Context, string) ([]string, error) {
		return []string{fmt.Sprintf("127.0.0.%d", now), "127.0.1.1"}, nil
	}
	a.resolve(t.Context())
	stays := a.loads.of("127.0.1.1:1")
	for now = range 100 {
		a.resolve(t.Context())
	}
	if n := len(a.loads.byAddress); n != 2 || a.loads.of("127.0.1.1:1") != stays {
		t.Errorf("the loads of %d addresses are kept, of 2", n)
	}
	known, _, _ := a.current()
	for _, address := range known {
		if loadOf(address) != a.loads.of(address.Addr) {
			t.Error(address.Addr, "has another load")
		}
	}
}

// startedConn is a connection whose process has no health service.
type startedConn struct{ balancer.SubConn }

func (startedConn) RegisterHealthListener(func(balancer.SubConnState)) {}

// clientConn makes such connections.
type clientConn struct {
	balancer.ClientConn
	listener func(balancer.SubConnState)
}

func (c *clientConn) NewSubConn(_ []resolver.Address, options balancer.NewSubConnOptions) (balancer.SubConn, error) {
	c.listener = options.StateListener
	return startedConn{}, nil
}

// A process that was killed, and so has failed, is not left alone once it is running again. One that fails and
// keeps its port, whatever becomes of its connections, is.
func TestAProcessThatIsStartedAgainIsNotLeftAlone(t *testing.T) {
	addresses := newAddresses(nil)
	l, address := addresses.loads.of("127.0.0.1:1"), addresses.address(Endpoint{}, "127.0.0.1:1")
	var inner clientConn
	conn := &healthConn{&inner, &healthBalancer{}}
	if _, err := conn.NewSubConn([]resolver.Address{address}, balancer.NewSubConnOptions{StateListener: func(balancer.SubConnState) {}}); err != nil {
		t.Fatal(err)
	}
	become := func(states ...connectivity.State) {
		for _, state := range states {
			inner.listener(balancer.SubConnState{ConnectivityState: state})
		}
	}
	eject := func() {
		for range ejectAfter {
			(&process{load: l}).done(balancer.DoneInfo{Err: status.Error(codes.Unavailable, "")}, time.Time{})
		}
	}
	isAlone := func() bool { return l.ejectedUntil.Load() > time.Now().UnixNano() }
	become(connectivity.Connecting, connectivity.Ready)
	eject()
	become(connectivity.Idle, connectivity.Connecting, connectivity.Ready)
	if !isAlone() {
		t.Error("it gets calls again, though it only has a new connection")
	}
	become(connectivity.Idle, connectivity.Connecting, connectivity.TransientFailure, connectivity.Idle, connectivity.Connecting)
	if !isAlone() {
		t.Error("it gets calls again before it is back")
	}
	become(connectivity.Ready)
	if isAlone() || l.failures.Load() != 0 {
		t.Error("it is left alone though it was started again")
	}
	eject()
	become(connectivity.Idle, connectivity.Connecting, connectivity.Ready)
	if !isAlone() {
		t.Error("what was forgiven once is forgiven for ever")
	}
}
