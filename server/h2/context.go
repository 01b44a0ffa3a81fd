package h2

import (
	"context"
	"sync"
	"time"
)

// requestContext is the context of one request. It has the values of the connection's context and
// ends when the request is over. It makes a channel only when Done is called. It has the AfterFunc
// method that package context looks for, so a context derived from it needs neither a goroutine nor
// a registration with the connection's context.
type requestContext struct {
	parent context.Context

	mu    sync.Mutex
	done  chan struct{}
	err   error
	after map[*afterFunc]struct{}
}

type afterFunc struct{ f func() }

func (r *requestContext) Deadline() (time.Time, bool) { return r.parent.Deadline() }

func (r *requestContext) Value(key any) any { return r.parent.Value(key) }

func (r *requestContext) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *requestContext) Done() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done = make(chan struct{})
		if r.err != nil {
			close(r.done)
		}
	}
	return r.done
}

// AfterFunc runs f on its own goroutine once the request is over. The returned function prevents
// that and reports whether it did.
func (r *requestContext) AfterFunc(f func()) (stop func() bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		go f()
		return func() bool { return false }
	}
	if r.after == nil {
		r.after = make(map[*afterFunc]struct{})
	}
	a := &afterFunc{f}
	r.after[a] = struct{}{}
	return func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		_, waiting := r.after[a]
		delete(r.after, a)
		return waiting
	}
}

// cancel ends the context.
func (r *requestContext) cancel() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return
	}
	r.err = context.Canceled
	if r.done != nil {
		close(r.done)
	}
	for a := range r.after {
		go a.f()
	}
	r.after = nil
}
