package bridge

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/connectivity"
)

// A Report says how one upstream is at the moment, for metrics. It has nothing of what the upstream
// itself says, such as the names of its services, so that its size does not depend on that.
type Report struct {
	// Upstream is what was given for it: [SERVICE=]URL[,URL…].
	Upstream string
	// Up says that at least one process takes calls.
	Up bool
	// Known is how many processes there are, by the URLs and the addresses of their hosts. Ready is how
	// many of them are connected and say that they serve; LeftAlone, how many of those get no calls for
	// a while, because several in a row have failed; Unlearnt, how many answer, but did not tell their
	// services.
	Known, Ready, LeftAlone, Unlearnt int
	// Ejections is how often a process has been left alone so far.
	Ejections uint64
	// Attempts is how often a call was handed to a process, and Failed how many of those ended with
	// UNAVAILABLE, INTERNAL or UNKNOWN. A call that a process has certainly not begun is handed to
	// another one, and counts twice.
	Attempts, Failed uint64
	// Services is how many services there are, by what became of them. It has every State.
	Services map[State]int
	// SchemaAge is the time since a process last told its services. It is negative if none has, or if
	// that is not needed, since the schema is given or known.
	SchemaAge time.Duration
}

// A State is what became of a service of an upstream.
type State string

// The states of a service.
const (
	Mounted  State = "mounted"  // callers reach it
	Differs  State = "differs"  // refused: the processes have different schemas of it
	Owned    State = "owned"    // refused: another upstream answers it already
	Reserved State = "reserved" // refused: the port has a service of that name itself
	Unusable State = "unusable" // refused: its types do not link, or are too many
)

// States is every State.
var States = []State{Mounted, Differs, Owned, Reserved, Unusable}

// A census counts the services of each upstream by their states.
type census map[*upstream]map[State]int

func (c census) count(u *upstream, s State, by int) {
	if c[u] == nil {
		c[u] = make(map[State]int)
	}
	c[u][s] += by
}

// totals counts what the balancer does with the calls of an upstream.
type totals struct {
	attempts, failed, ejections atomic.Uint64
	ready                       atomic.Pointer[[]*load] // the processes that get calls, while any does
}

// are says which processes get calls now.
func (t *totals) are(ready []*load) {
	if t != nil {
		t.ready.Store(&ready)
	}
}

func (t *totals) attempt() {
	if t != nil {
		t.attempts.Add(1)
	}
}

func (t *totals) fail() {
	if t != nil {
		t.failed.Add(1)
	}
}

// eject counts a process that has begun to be left alone. A process that has no others beside it never is.
func (t *totals) eject() {
	if t == nil {
		return
	}
	if ready := t.ready.Load(); ready != nil && len(*ready) > 1 {
		t.ejections.Add(1)
	}
}

// Reports says how each upstream is, in the order of Config.Upstreams.
func (b *Bridge) Reports() []Report {
	b.mu.Lock()
	services := b.services
	b.mu.Unlock()
	var reports []Report
	for _, u := range b.upstreams {
		r := u.report(time.Now())
		for _, state := range States {
			r.Services[state] = services[u][state]
		}
		reports = append(reports, r)
	}
	return reports
}

func (u *upstream) report(now time.Time) Report {
	known, _, _ := u.addresses.current()
	totals := &u.addresses.loads.totals
	r := Report{
		Upstream:  u.name,
		Up:        u.up(),
		Known:     len(known),
		Ejections: totals.ejections.Load(),
		Attempts:  totals.attempts.Load(),
		Failed:    totals.failed.Load(),
		Services:  make(map[State]int),
		SchemaAge: -1,
	}
	// The balancer makes no picker of processes once there are none that are ready.
	if ready := totals.ready.Load(); ready != nil && u.conn.GetState() == connectivity.Ready {
		r.Ready = len(*ready)
		for _, l := range *ready {
			if l.ejectedUntil.Load() > now.UnixNano() {
				r.LeftAlone++
			}
		}
		if r.Ready == 1 || 2*r.LeftAlone > r.Ready {
			r.LeftAlone = 0 // they get calls all the same: see picker.least
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, l := range u.processes {
		if l.up && l.err != nil {
			r.Unlearnt++
		}
		if age := now.Sub(l.told); !l.told.IsZero() && (r.SchemaAge < 0 || age < r.SchemaAge) {
			r.SchemaAge = age
		}
	}
	return r
}

// Ready returns nil if at least one service of an upstream is mounted and its upstream answers, else
// what is missing. It is for the operator: it has addresses of upstreams.
func (b *Bridge) Ready() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.mounted {
		if !m.mount.Down {
			return nil
		}
	}
	var missing []string
	for _, u := range b.upstreams {
		missing = append(missing, u.missing())
	}
	return errors.New("no service of another server can be called: " + strings.Join(missing, "; "))
}

// missing says why no service of the upstream can be called.
func (u *upstream) missing() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, address := range slices.Sorted(maps.Keys(u.processes)) {
		if err := u.processes[address].err; err != nil {
			return u.name + ": " + err.Error()
		}
	}
	if !u.answers {
		return u.name + ": it does not answer"
	}
	return u.name + ": it has no service that could be mounted"
}

// hasNoReflection reports whether a process has answered that it cannot tell its services.
func (u *upstream) hasNoReflection() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, l := range u.processes {
		if errors.Is(l.err, errNoReflection) {
			return true
		}
	}
	return false
}

// duplicate returns an error if an upstream is there twice: its services would clash with themselves,
// and its metrics would have one name.
func duplicate(upstreams []Upstream) error {
	seen := make(map[string]bool)
	for _, u := range upstreams {
		if seen[u.String()] {
			return fmt.Errorf("%s is given twice", u)
		}
		seen[u.String()] = true
	}
	return nil
}

// count records what became of the services, where refused has those that are not mounted. b.mu is held.
func (b *Bridge) count(refused census) {
	for _, m := range b.mounted {
		state := Mounted
		if m.refuse {
			state = Differs
		}
		refused.count(m.upstream, state, 1)
	}
	b.services = refused
}
