package h2

import (
	"context"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"time"
)

// task is what a worker runs. Implementations are pointers, so that passing one allocates nothing.
type task interface{ run() }

// workers runs tasks on goroutines that are kept for later tasks, because a new goroutine has to
// grow its stack first. Running tasks are not limited here, since each connection limits its
// streams; only the number of idle goroutines is.
type workers struct {
	maxIdle     int
	idleTimeout time.Duration

	mu        sync.Mutex
	idle      []*worker // a stack: the worker that finished last runs next, as its memory is in the cache
	leastIdle int       // the fewest that were idle since the last sweep, so the number that was not needed
	sweep     *time.Timer
}

type worker struct {
	next chan task // capacity 1, nil means end
}

// run runs t on an idle or a new goroutine, and does not wait for it.
func (ws *workers) run(t task) {
	ws.mu.Lock()
	n := len(ws.idle)
	if n == 0 {
		ws.mu.Unlock()
		go (&worker{next: make(chan task, 1)}).loop(ws, t)
		return
	}
	w := ws.idle[n-1]
	ws.idle[n-1] = nil
	ws.idle = ws.idle[:n-1]
	ws.leastIdle = min(ws.leastIdle, n-1)
	ws.mu.Unlock()
	w.next <- t
}

func (w *worker) loop(ws *workers, t task) {
	for t != nil {
		t.run()
		t = nil
		resetGoroutine()
		if !ws.park(w) {
			return
		}
		t = w.wait()
	}
}

// resetGoroutine takes back what a handler may have changed of its goroutine. What cannot be taken
// back is documented: a handler must undo its calls of runtime.LockOSThread.
func resetGoroutine() {
	pprof.SetGoroutineLabels(context.Background())
	debug.SetPanicOnFault(false)
}

// wait blocks until there is a task. Its stack frame is large on purpose: the garbage collector
// halves the stack of a goroutine that uses less than a quarter of it, and the next handler would
// have to grow it again.
//
//go:noinline
func (w *worker) wait() task {
	var ballast [2560]byte
	return receive(w.next, &ballast)
}

//go:noinline
func receive(ch chan task, _ *[2560]byte) task { return <-ch }

// park adds w to the idle workers and returns true, or returns false if there are maxIdle.
func (ws *workers) park(w *worker) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if len(ws.idle) >= ws.maxIdle {
		return false
	}
	ws.idle = append(ws.idle, w)
	if ws.sweep == nil {
		ws.leastIdle = 0
		ws.sweep = time.AfterFunc(ws.idleTimeout, ws.sweepIdle)
	}
	return true
}

// sweepIdle ends the workers that were not needed since the last sweep: those at the bottom of the
// stack.
func (ws *workers) sweepIdle() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.end(ws.leastIdle)
	ws.leastIdle = len(ws.idle)
	if len(ws.idle) > 0 {
		ws.sweep.Reset(ws.idleTimeout)
	} else {
		ws.sweep = nil
	}
}

// releaseIdle ends all idle workers.
func (ws *workers) releaseIdle() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.end(len(ws.idle))
}

// end ends the n workers that have been idle longest. ws.mu is held.
func (ws *workers) end(n int) {
	for _, w := range ws.idle[:n] {
		w.next <- nil
	}
	kept := copy(ws.idle, ws.idle[n:])
	clear(ws.idle[kept:])
	ws.idle = ws.idle[:kept]
	ws.leastIdle = min(ws.leastIdle, kept)
}
