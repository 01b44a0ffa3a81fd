package directory

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// healthTimeout is what the contract says: the store answers within a second.
const healthTimeout = time.Second

// A Status is whether the store answered when it was asked last. It is valid until Changed.
type Status struct {
	// Err is nil if the store answered within a second, otherwise it says what was wrong.
	Err error

	changed chan struct{}
}

func newStatus(err error) *Status { return &Status{Err: err, changed: make(chan struct{})} }

// Changed is closed when there is another Status.
func (s *Status) Changed() <-chan struct{} { return s.changed }

// Status tells whether the store answers. It does not ask the store, which is asked every
// Config.PollInterval. While the store does not answer, users in the cache are still answered, and
// look-ups of others fail at once.
func (d *Directory) Status() *Status { return d.status.Load() }

// Health asks the store whether it answers within a second.
func (d *Directory) Health(ctx context.Context) error {
	if err := d.Status().Err; err != nil {
		return err // a query would only wait, like those before it
	}
	limited, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	answer := make(chan error, 1)
	// A store on a file system that hangs does not hear that the time is up.
	go func() {
		_, err := d.store.State(limited)
		answer <- err
	}()
	var err error
	select {
	case err = <-answer:
	case <-limited.Done():
		err = limited.Err()
	}
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return errNoAnswer()
	}
	return err
}

func errNoAnswer() error { return fmt.Errorf("%w: no answer within %v", ErrUnavailable, healthTimeout) }

// ask asks the store for its state and keeps the status. It is the only one to do so.
func (d *Directory) ask(ctx context.Context) (state State, err error) {
	var mu sync.Mutex
	answered := false
	// A store on a file system that hangs does not hear that the time is up.
	overdue := time.AfterFunc(healthTimeout, func() {
		mu.Lock()
		defer mu.Unlock()
		if !answered {
			d.setStatus(errNoAnswer())
		}
	})
	defer overdue.Stop()
	limited, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	state, err = d.store.State(limited)
	switch {
	case ctx.Err() != nil:
		return State{}, ctx.Err() // the Directory is closed
	case err != nil && limited.Err() != nil:
		err = errNoAnswer()
	}
	mu.Lock()
	defer mu.Unlock()
	answered = true
	d.setStatus(err)
	return state, err
}

func (d *Directory) setStatus(err error) {
	before := d.status.Load()
	if before.Err == nil && err == nil || before.Err != nil && err != nil && before.Err.Error() == err.Error() {
		return
	}
	switch {
	case err == nil:
		d.log.Info("the store answers again")
	case before.Err == nil:
		d.log.Error("the store does not answer; what is in memory still is answered", "error", err.Error())
	}
	d.status.Store(newStatus(err))
	close(before.changed)
}
