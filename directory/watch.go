package directory

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// ErrSlow is the error of a watch whose caller takes the changes more slowly than they are made. It can
// watch again from the last revision that Batch.UpTo had.
var ErrSlow = errors.New("the watch does not keep up")

func errClosed() error { return fmt.Errorf("%w: the directory is closed", ErrUnavailable) }

// The kinds of changes that only watches have.
const (
	// Existing: the user was there when a watch from the beginning came to it.
	Existing Kind = 4 + iota
	// Left: the user matched the filter before the change and no longer does. Only its id and the revision
	// are set.
	Left
)

// WatchFrom says where a watch begins, and what it is told of. Its zero value begins now.
type WatchFrom struct {
	// Beginning begins with all users, as changes of the kind Existing.
	Beginning bool
	// Cursor, if set, is the place to begin after. Beginning must not be set then.
	Cursor *Cursor
	// Filter selects the users to tell of.
	Filter Filter
}

// A Batch is some changes that follow those of the batch before.
type Batch struct {
	// Changes may be none. They are shared and must not be changed.
	Changes []Change
	// UpTo is the revision up to which everything has been returned, with this batch; its Oldest is not
	// set. A watch from the beginning has none, and an empty epoch, until it has returned all users
	// and what was changed while it did.
	UpTo State
}

// A Watch returns the changes of a Directory, each once and in order. Next and Progress are called by one
// goroutine at a time.
type Watch struct {
	directory *Directory
	filter    Filter

	// These are guarded by the mu of the feed: locked for reading by Next and Progress, for writing by others.

	// cursor is the place after what was returned; of a watch that still lists the users, where the
	// changes go on.
	cursor Cursor
	err    error
	// listing is set while the users are listed. listed is the last of them, and until the revision that
	// the list may have changes of.
	listing bool
	listed  *PageKey
	until   int64
	// asking is set while Next runs; left is when it returned last.
	asking atomic.Bool
	left   atomic.Int64 // Unix time in nanoseconds
	// asOf is a time at which there was nothing after cursor.
	asOf time.Time
}

// Watch begins a watch. It must be closed. It fails with a *HistoryError for a place that is not in the
// history.
func (d *Directory) Watch(ctx context.Context, from WatchFrom) (*Watch, error) {
	if err := d.Status().Err; err != nil {
		return nil, err
	}
	if from.Beginning && from.Cursor != nil {
		return nil, errors.New("a watch begins at the beginning or at a cursor")
	}
	polled, err := d.joinPoll(ctx)
	if err != nil {
		return nil, err
	}
	state := polled.state
	w := &Watch{directory: d, filter: from.Filter, listing: from.Beginning, asOf: polled.began,
		cursor: Cursor{Epoch: state.Epoch, Revision: state.Revision}}
	if c := from.Cursor; c != nil {
		future := c.Revision > state.Revision || c.Revision == state.Revision && c.Skip > 0
		if c.Epoch != "" && c.Epoch != state.Epoch || c.Revision < state.Oldest || future {
			return nil, &HistoryError{State: state, Asked: *c}
		}
		w.cursor.Revision, w.cursor.Skip = c.Revision, c.Skip
		if c.Revision < state.Revision {
			w.asOf = time.Time{}
		}
	}
	if w.listing {
		w.asOf = time.Time{}
	}
	if err := d.feed.add(w, state); err != nil {
		return nil, err
	}
	return w, nil
}

// Close ends the watch. A Next that waits does not hear of it: end its context.
func (w *Watch) Close() { w.directory.feed.remove(w) }

// Progress returns the revision up to which everything has been returned, as Batch.UpTo has it, and the
// latest time at which the store is known to have had nothing beyond it. A store that no longer answers
// is one whose time no longer advances. The time is zero if there was none yet.
func (w *Watch) Progress() (upTo State, asOf time.Time) {
	f := w.directory.feed
	f.mu.RLock()
	defer f.mu.RUnlock()
	if !w.listing && w.err == nil && w.cursor == f.end && f.asOf.After(w.asOf) {
		w.asOf = f.asOf
	}
	return w.upTo(), w.asOf
}

// upTo is Batch.UpTo; feed.mu is held.
func (w *Watch) upTo() State {
	if w.listing || w.cursor.Revision < w.until {
		return State{}
	}
	return State{Epoch: w.cursor.Epoch, Revision: w.cursor.Revision}
}

// Next returns what is new, and waits until there is something. An error of ctx, or ErrUnavailable of the
// store, does not end the watch. A *HistoryError does: the history that the watch follows is no longer
// there. So does ErrSlow.
func (w *Watch) Next(ctx context.Context) (Batch, error) {
	f := w.directory.feed
	w.asking.Store(true)
	defer func() {
		w.left.Store(time.Now().UnixNano())
		w.asking.Store(false)
	}()
	for {
		if err := ctx.Err(); err != nil {
			return Batch{}, err
		}
		f.mu.RLock()
		switch {
		case w.err != nil:
			defer f.mu.RUnlock()
			return Batch{}, w.err
		case f.closed:
			f.mu.RUnlock()
			return Batch{}, errClosed()
		case w.listing:
			f.mu.RUnlock()
			batch, err := w.list(ctx)
			// The end of the list is news, too, if nobody is on its last page, or on any.
			if err != nil || len(batch.Changes) > 0 || batch.UpTo.Epoch != "" {
				return batch, err
			}
			continue
		case w.cursor.before(f.first):
			f.mu.RUnlock()
			return w.catchUp(ctx)
		}
		changes, end := f.after(w.cursor)
		if end != w.cursor {
			w.cursor = end
			if end == f.end {
				w.asOf = f.asOf
			}
			upTo := w.upTo()
			f.mu.RUnlock()
			return Batch{Changes: w.filtered(changes), UpTo: upTo}, nil
		}
		news := f.news
		f.mu.RUnlock()
		select {
		case <-news:
		case <-ctx.Done():
		}
	}
}

// read runs a query of the store for this watch. Only a few do so at once.
func (w *Watch) read(ctx context.Context, query func(context.Context) error) error {
	f := w.directory.feed
	select {
	case f.reading <- struct{}{}:
		defer func() { <-f.reading }()
	case <-ctx.Done():
		return ctx.Err()
	}
	limited, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	err := query(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = errNoAnswer()
	}
	var history *HistoryError
	if errors.As(err, &history) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if w.err == nil {
			w.err = history
			f.lost++
		}
	}
	return err
}

// catchUp returns the changes after the watch's place, which the feed no longer has.
func (w *Watch) catchUp(ctx context.Context) (Batch, error) {
	began := time.Now()
	var changes []Change
	var state State
	err := w.read(ctx, func(ctx context.Context) (err error) {
		changes, state, err = w.directory.store.Changes(ctx, w.cursor, feedPage)
		return err
	})
	if err != nil {
		return Batch{}, err
	}
	f := w.directory.feed
	f.mu.Lock()
	if len(changes) < feedPage {
		w.cursor = Cursor{Epoch: w.cursor.Epoch, Revision: state.Revision}
		w.asOf = began
	} else {
		w.cursor = w.cursor.past(&changes[len(changes)-1])
	}
	upTo := w.upTo()
	f.mu.Unlock()
	return Batch{Changes: w.filtered(changes), UpTo: upTo}, nil
}

// list returns the next users of a watch from the beginning. Each page is read by itself. A user who was
// changed since the watch began is left out: the change will come.
func (w *Watch) list(ctx context.Context) (Batch, error) {
	began := time.Now()
	var page Page
	err := w.read(ctx, func(ctx context.Context) (err error) {
		page, err = w.directory.store.List(ctx, Query{Filter: w.filter, After: w.listed, Limit: listedAtOnce})
		if err == nil && (page.State.Epoch != w.cursor.Epoch || page.State.Oldest > w.cursor.Revision) {
			err = &HistoryError{State: page.State, Asked: w.cursor}
		}
		return err
	})
	if err != nil {
		return Batch{}, err
	}
	changes := make([]Change, 0, len(page.Users))
	for i := range page.Users {
		if user := &page.Users[i]; user.Revision <= w.cursor.Revision {
			changes = append(changes, Change{Revision: user.Revision, Time: user.Updated, Kind: Existing, User: *user, Last: true})
		}
	}
	f := w.directory.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(page.Users) > 0 {
		w.listed = &PageKey{ID: page.Users[len(page.Users)-1].ID}
	}
	if !page.More {
		// The list lacks users whose change will come, up to the revision of its last page. Only then
		// is it true that all is told.
		w.listing, w.until = false, page.State.Revision
		if w.until == w.cursor.Revision {
			w.asOf = began
		}
	}
	return Batch{Changes: changes, UpTo: w.upTo()}, nil
}

// listedAtOnce is how many users are read from the store, and returned to a watch, at once.
const listedAtOnce = 500

// filtered returns the changes that the filter lets through, as the watch is told of them.
func (w *Watch) filtered(changes []Change) []Change {
	if w.filter == (Filter{}) {
		return changes
	}
	var kept []Change
	for i := range changes {
		c := changes[i]
		before := c.Kind != Created && w.filter.Matches(c.Before.Name, c.Before.Email)
		now := c.Kind != Deleted && w.filter.Matches(c.User.Name, c.User.Email)
		switch {
		case now, before && c.Kind == Deleted:
		case before:
			c.Kind, c.shared = Left, nil // another change than that of those whom it did not leave
			c.User = Record{User: User{ID: c.User.ID}, Revision: c.User.Revision}
		default:
			continue
		}
		kept = append(kept, c)
	}
	return kept
}
