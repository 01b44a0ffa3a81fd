// Package soak runs a mixed load on a server for a long time and tells what it
// leaves behind: goroutines, memory, files.
package soak

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"example.com/roster/bench/internal/peer"
)

// State is what a server holds at a quiet moment.
type State struct {
	Goroutines   int
	Heap, Stacks int64
	Memory       int64
	Threads      int
	Files        int
}

// mostSettling is how long a server may take to let go of what it keeps for
// the next call.
const mostSettling = 3 * time.Minute

// Result is what a soak saw.
type Result struct {
	Duration      time.Duration
	Before, After State
	// Settled is how long after the load After was seen.
	Settled time.Duration
	// MostMemory is the most that was resident under load, at each tenth of
	// the time.
	MostMemory []int64
	// Done counts what each kind of caller finished, Wrong what went otherwise
	// than it should, with the first of them said.
	Done       map[string]int64
	Wrong      int64
	FirstWrong string
	// Races is how often the race detector spoke.
	Races int
}

// Leaks says what is left that should not be; empty is good.
func (r *Result) Leaks() []string {
	var leaks []string
	// A few goroutines more or less are timers and idle workers.
	if r.After.Goroutines > r.Before.Goroutines+10 {
		leaks = append(leaks, fmt.Sprintf("%d goroutines where there were %d", r.After.Goroutines, r.Before.Goroutines))
	}
	if r.After.Heap > r.Before.Heap*3/2+4<<20 {
		leaks = append(leaks, fmt.Sprintf("%d bytes of heap where there were %d", r.After.Heap, r.Before.Heap))
	}
	if r.After.Files > r.Before.Files+2 {
		leaks = append(leaks, fmt.Sprintf("%d open files where there were %d", r.After.Files, r.Before.Files))
	}
	if r.Races > 0 {
		leaks = append(leaks, fmt.Sprintf("%d data races", r.Races))
	}
	if r.Wrong > 0 {
		leaks = append(leaks, fmt.Sprintf("%d calls went wrong, the first: %s", r.Wrong, r.FirstWrong))
	}
	return leaks
}

// Run soaks Roster, built with the race detector, for a time. The state before
// is taken after a short load, so that what is made once is there.
func Run(ctx context.Context, setup *peer.Setup, duration time.Duration, say func(string, ...any)) (*Result, error) {
	server, err := setup.Start(ctx, peer.Roster, peer.Options{GC: peer.Default, Stream: true})
	if err != nil {
		return nil, err
	}
	defer server.Stop()
	result := &Result{Duration: duration, Done: make(map[string]int64)}
	warm := newLoad(server.Addr)
	warm.run(ctx, max(min(duration/20, 20*time.Second), time.Second))
	if result.Before, err = quietState(ctx, server); err != nil {
		return nil, err
	}
	say("before: %+v", result.Before)
	l := newLoad(server.Addr)
	var watching sync.WaitGroup
	watching.Go(func() {
		for tenth := range 10 {
			most := int64(0)
			for end := time.Now().Add(duration / 10); time.Now().Before(end) && ctx.Err() == nil; {
				rss, err := server.RSS()
				if err != nil {
					return // the load sees that the server is gone
				}
				most = max(most, rss)
				time.Sleep(max(min(duration/100, time.Second), 10*time.Millisecond))
			}
			result.MostMemory = append(result.MostMemory, most)
			say("%3d%%: %.1f MB resident at most, %d callers' work done, %d wrong", (tenth+1)*10, float64(most)/1e6, l.total(), l.wrong.Load())
		}
	})
	l.run(ctx, duration)
	watching.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if !server.Running() {
		output, _ := server.Output()
		return nil, fmt.Errorf("the server ended under load: %.3000s", output)
	}
	// Goroutines that are kept for the next call go one after the other.
	for ended := time.Now(); ; {
		if result.After, err = quietState(ctx, server); err != nil {
			return nil, err
		}
		result.Settled = time.Since(ended).Round(time.Second)
		say("after:  %+v, %v after the load", result.After, result.Settled)
		if len(result.Leaks()) == 0 || result.Settled > mostSettling {
			break
		}
	}
	for name, count := range l.done {
		result.Done[name] = count.Load()
	}
	result.Wrong = l.wrong.Load()
	if first := l.firstWrong.Load(); first != nil {
		result.FirstWrong = *first
	}
	output, err := server.Output()
	result.Races = strings.Count(output, "WARNING: DATA RACE")
	return result, err
}

// quietState waits for what is ending to end, and asks the server what it has.
func quietState(ctx context.Context, server *peer.Running) (State, error) {
	var state State
	select {
	case <-ctx.Done():
		return state, ctx.Err()
	case <-time.After(5 * time.Second):
	}
	before, err := server.Output()
	if err != nil {
		return state, err
	}
	if err := server.Signal(syscall.SIGUSR1); err != nil {
		return state, err
	}
	for range 200 {
		time.Sleep(50 * time.Millisecond)
		output, err := server.Output()
		if err != nil {
			return state, err
		}
		said := output[len(before):]
		at := strings.Index(said, "goroutines ")
		if at < 0 || !strings.Contains(said[at:], "\n") {
			continue
		}
		if _, err := fmt.Sscanf(said[at:], "goroutines %d heap %d stacks %d", &state.Goroutines, &state.Heap, &state.Stacks); err != nil {
			return state, err
		}
		if state.Memory, err = server.RSS(); err != nil {
			return state, err
		}
		if state.Threads, err = server.Threads(); err != nil {
			return state, err
		}
		state.Files, err = server.Files()
		return state, err
	}
	return state, fmt.Errorf("the server does not answer SIGUSR1 with its state")
}

// load is the callers of one run.
type load struct {
	addr       string
	done       map[string]*atomic.Int64
	wrong      atomic.Int64
	firstWrong atomic.Pointer[string]
}

func newLoad(addr string) *load {
	l := &load{addr: addr, done: make(map[string]*atomic.Int64)}
	for _, c := range callers {
		l.done[c.name] = new(atomic.Int64)
	}
	return l
}

func (l *load) total() (sum int64) {
	for _, count := range l.done {
		sum += count.Load()
	}
	return sum
}

func (l *load) run(ctx context.Context, d time.Duration) {
	// Not a deadline: grpc-go would end its calls by it a moment before ctx is
	// done, and that would look wrong.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(d, cancel).Stop()
	var all sync.WaitGroup
	for _, c := range callers {
		for range c.count {
			all.Go(func() {
				for ctx.Err() == nil {
					err := c.work(ctx, l.addr, l.done[c.name])
					if err == nil || ctx.Err() != nil {
						continue
					}
					l.wrong.Add(1)
					text := c.name + ": " + err.Error()
					l.firstWrong.CompareAndSwap(nil, &text)
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
	}
	all.Wait()
}
