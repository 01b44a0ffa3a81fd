package directory

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// healthTimeout is the contract's: the store answers within a second.
const healthTimeout = time.Second

// A Status is what came of asking the store, and holds until Changed.
type Status struct {
	// Err is nil if the store answered within a second, else what was wrong.
	Err error

	changed chan struct{}
}

func newStatus(err error) *Status { return &Status{Err: err, changed: make(chan struct{})} }

// Changed is closed when there is another Status.
func (s *Status) Changed() <-chan struct{} { return s.changed }

// Status tells whether the store answers, as it was when it was asked last:
// that is done every Config.PollInterval. It costs nothing. While the store
// does not answer, what is in the cache still is answered, and the rest fails
// at once.
func (d *Directory) Status() *Status { return d.status.Load() }

// Health asks the store whether it answers within a second.
func (d *Directory) Health(ctx context.Context) error {
	if err := d.Status().Err; err != nil {
		return err // and begin nothing that would only pile up
	}
	limited, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	answer := make(chan error, 1)
	// A store on a file system that hangs does not hear that the time is up.
	go func() {
		_, err := d.store.Revision(limited)
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

// ask asks the store for its revision and keeps the status. It is the only one
// to do so.
func (d *Directory) ask(ctx context.Context) (revision int64, err error) {
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
	revision, err = d.store.Revision(limited)
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err() // the Directory is closed
	case err != nil && limited.Err() != nil:
		err = errNoAnswer()
	}
	mu.Lock()
	defer mu.Unlock()
	answered = true
	d.setStatus(err)
	return revision, err
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
