package directory

import (
	"context"
	"errors"
	"time"
)

const (
	// maxFollowed is the most changes of other processes that are taken out of the cache one by one.
	// Beyond it the cache is emptied, which takes less time than reading them.
	maxFollowed = 4096
	// followedAtOnce is how many changes are read at once for that.
	followedAtOnce = 512
)

// A poll is one question to the store for its state, and what came of it.
type poll struct {
	done  chan struct{} // closed when the others are set, and the cache has everything up to state
	began time.Time
	state State
	err   error
}

// State returns the state of the store that look-ups see at least.
func (d *Directory) State() State { return *d.seen.Load() }

// WaitFor returns when look-ups see a revision. It returns a *HistoryError if the store itself does not
// have that revision.
func (d *Directory) WaitFor(ctx context.Context, minRevision int64) error {
	if minRevision <= d.State().Revision {
		return nil
	}
	if err := d.Status().Err; err != nil {
		return err
	}
	next, err := d.joinPoll(ctx)
	if err == nil && minRevision > next.state.Revision {
		err = &HistoryError{State: next.state, Asked: Cursor{Revision: minRevision}}
	}
	return err
}

// joinPoll waits for a poll that begins after joinPoll was called. All who wait share it, so that a thousand of
// them do not queue for the store, and the health check behind them.
func (d *Directory) joinPoll(ctx context.Context) (*poll, error) {
	d.mu.Lock()
	if d.next == nil {
		d.next = &poll{done: make(chan struct{})}
	}
	next := d.next
	d.mu.Unlock()
	d.nudge()
	select {
	case <-next.done:
		return next, next.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-d.followed:
	}
	select {
	case <-next.done:
		return next, next.err
	default:
		return nil, errClosed()
	}
}

// nudge makes follow poll at once.
func (d *Directory) nudge() {
	select {
	case d.wake <- struct{}{}:
	default: // it is about to
	}
}

// follow asks the store for its state, removes from the cache what others have changed, and keeps the
// status.
func (d *Directory) follow(ctx context.Context, interval time.Duration) {
	defer close(d.followed)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			d.poll(ctx) // for those who wait
			return
		case <-ticker.C:
		case <-d.wake:
		}
		d.poll(ctx)
	}
}

func (d *Directory) poll(ctx context.Context) {
	d.mu.Lock()
	waited := d.next
	d.next = nil
	d.mu.Unlock()
	began := time.Now()
	state, err := d.ask(ctx)
	if err == nil {
		err = d.catchUp(ctx, state)
	}
	if err == nil {
		d.counts.answered.Store(time.Now().UnixNano())
		d.feed.polled(state, began)
	}
	// Otherwise look-ups are still answered from the cache.
	if waited != nil {
		if ctx.Err() != nil {
			err = errClosed()
		}
		waited.began, waited.state, waited.err = began, state, err
		close(waited.done)
	}
}

// catchUp brings the cache up to a state of the store.
func (d *Directory) catchUp(ctx context.Context, state State) error {
	seen := d.State()
	switch {
	case seen.Epoch == state.Epoch && seen.Revision >= state.Revision:
		return nil
	case seen.Epoch != state.Epoch, state.Revision-seen.Revision > maxFollowed:
		d.forget(state)
		return nil
	}
	cursor := Cursor{Epoch: seen.Epoch, Revision: seen.Revision}
	// All leave the cache at once: a look-up must not see a part of a change.
	var ids []int32
	for {
		changes, now, err := d.changes(ctx, cursor, followedAtOnce)
		switch {
		case errors.Is(err, ErrHistory), err == nil && len(ids)+len(changes) > maxFollowed:
			d.forget(state)
			return nil
		case err != nil:
			return err
		}
		for i := range changes {
			ids = append(ids, changes[i].User.ID)
		}
		if len(changes) == followedAtOnce {
			cursor = cursor.past(&changes[len(changes)-1])
			continue
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.drop(ids)
		// What was changed between state and now is in changes, too.
		if last := d.seen.Load(); last.Epoch == now.Epoch && last.Revision < now.Revision {
			d.advance(&now)
		}
		return nil
	}
}

// changes is Store.Changes for follow, bounded in time.
func (d *Directory) changes(ctx context.Context, from Cursor, limit int) ([]Change, State, error) {
	limited, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	changes, state, err := d.store.Changes(limited, from, limit)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = errNoAnswer()
	}
	return changes, state, err
}

// forget empties the cache, which is as new as state then.
func (d *Directory) forget(state State) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dropAll()
	if seen := d.seen.Load(); seen.Epoch != state.Epoch || seen.Revision < state.Revision {
		d.advance(&state)
	}
}

// past returns the place after a change.
func (c Cursor) past(change *Change) Cursor {
	if change.Last {
		return Cursor{Epoch: c.Epoch, Revision: change.Revision}
	}
	return Cursor{Epoch: c.Epoch, Revision: change.Revision - 1, Skip: change.Index + 1}
}

// before reports whether c is an earlier place than other, in the same history.
func (c Cursor) before(other Cursor) bool {
	return c.Revision < other.Revision || c.Revision == other.Revision && c.Skip < other.Skip
}

// compact has the store drop old changes from time to time.
func (d *Directory) compact(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	failed := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := d.store.Compact(ctx)
		text := ""
		switch {
		case err == nil, ctx.Err() != nil, errors.Is(err, ErrReadOnly), errors.Is(err, ErrUnavailable):
			// A store that does not answer says so elsewhere.
		default:
			text = err.Error()
		}
		if text != "" && text != failed {
			d.log.Error("old changes cannot be dropped: the store grows", "error", text)
		}
		failed = text
	}
}
