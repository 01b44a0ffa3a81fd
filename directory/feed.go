package directory

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"
)

// The bounds of the feed. The recent changes that it keeps in memory are shared by all watches.
const (
	feedChanges = 8192
	feedBytes   = 8 << 20
	// feedPage is how many changes are read from the store, and returned to a watch, at once.
	feedPage = 256
	// slowAfter is how long a watch may hold up the feed, which has no room for more then. It holds up no
	// writer and no look-up.
	slowAfter = 2 * time.Second
	// catchUps is how many watches read the store by themselves at once.
	catchUps = 2
)

// A feed reads the changes of a store once for all watches. A watch is a place in the history; what is
// no longer in memory it reads from the store itself.
type feed struct {
	store Store
	wake  chan struct{} // makes run read at once
	// reading has an element for each watch that reads the store.
	reading chan struct{}

	// mu is locked to change the feed or another's watch. A watch that changes itself only reads the feed, so
	// that a thousand of them do not queue.
	mu      sync.RWMutex
	watches map[*Watch]struct{}
	closed  bool
	// pages have all changes from first to end, the older ones first.
	pages          []feedPart
	first, end     Cursor
	changes, bytes int // in pages
	// asOf is a time at which there was nothing after end.
	asOf time.Time
	// news is closed when end has moved or a watch has ended.
	news       chan struct{}
	slow, lost uint64
}

// A feedPart is a part of the feed: what one read of the store has found. The changes are shared and never changed.
type feedPart struct {
	changes []Change
	end     Cursor // the place after them
	bytes   int
}

func newFeed(store Store) *feed {
	return &feed{store: store, wake: make(chan struct{}, 1), reading: make(chan struct{}, catchUps),
		watches: make(map[*Watch]struct{}), news: make(chan struct{})}
}

func (f *feed) counts() (open int, slow, lost uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.watches), f.slow, f.lost
}

// nudge makes the feed read the store at once.
func (f *feed) nudge() {
	select {
	case f.wake <- struct{}{}:
	default: // it is about to
	}
}

// polled tells the feed of a state of the store, which was asked for at a time.
func (f *feed) polled(state State, began time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case len(f.watches) == 0:
	case f.end == Cursor{Epoch: state.Epoch, Revision: state.Revision}:
		f.asOf = began
	default:
		f.nudge()
	}
}

// run reads the store whenever there may be news, until ctx ends.
func (f *feed) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			f.mu.Lock()
			f.closed = true
			f.announce()
			f.mu.Unlock()
			return
		case <-f.wake:
		}
		for f.read(ctx) {
		}
	}
}

// read reads a page, and reports whether there may be more. An error of the store leaves everything as it
// is: the next poll leads here again.
func (f *feed) read(ctx context.Context) (more bool) {
	f.mu.Lock()
	from, idle := f.end, len(f.watches) == 0
	f.mu.Unlock()
	if idle {
		return false
	}
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	changes, state, err := f.store.Changes(limited, from, feedPage)
	var history *HistoryError
	if errors.As(err, &history) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.end == from {
			f.restart(history.State)
		}
		return false
	}
	if err != nil {
		return false
	}
	complete := len(changes) < feedPage
	page := feedPart{changes: changes, end: Cursor{Epoch: from.Epoch, Revision: state.Revision}}
	if !complete {
		page.end = from.past(&changes[len(changes)-1])
	}
	page.changes = faultyFeed(page.changes)
	for i := range page.changes {
		page.changes[i].shared = new(encodings)
		page.bytes += sizeOf(&page.changes[i])
	}
	if !f.makeRoom(ctx, page) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.end != from {
		return true // it was restarted meanwhile
	}
	if complete {
		f.asOf = began
	}
	if page.end == from {
		return false
	}
	if len(page.changes) > 0 {
		f.pages = append(f.pages, page)
		f.changes += len(page.changes)
		f.bytes += page.bytes
	}
	f.end = page.end
	f.announce()
	return !complete
}

// sizeOf is about how many bytes a change takes in memory, with its encodings, which have little but the user.
func sizeOf(c *Change) int {
	user := len(c.User.Name) + len(c.User.Email)
	return 600 + len(c.Actor) + (1+MaxEncodings)*user + len(c.Before.Name) + len(c.Before.Email)
}

// announce wakes all watches that wait; f.mu is held.
func (f *feed) announce() {
	close(f.news)
	f.news = make(chan struct{})
}

// restart empties the feed, which goes on from state, and ends the watches whose place is not in the
// history of that state; f.mu is held.
func (f *feed) restart(state State) {
	f.pages, f.changes, f.bytes = nil, 0, 0
	f.end = Cursor{Epoch: state.Epoch, Revision: state.Revision}
	f.first = f.end
	for w := range f.watches {
		if w.err == nil && (w.cursor.Epoch != state.Epoch || w.cursor.Revision < state.Oldest) {
			w.err = &HistoryError{State: state, Asked: w.cursor}
			f.lost++
		}
	}
	f.announce()
}

// makeRoom drops the oldest pages until there is room for one more. It waits for watches that need them,
// but not for long: then they are dropped. It returns false if ctx ends.
func (f *feed) makeRoom(ctx context.Context, page feedPart) bool {
	began := time.Now()
	for !f.tryRoom(page, time.Since(began) > slowAfter) {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (f *feed) tryRoom(page feedPart, force bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.pages) > 0 && (f.changes+len(page.changes) > feedChanges || f.bytes+page.bytes > feedBytes) {
		oldest := f.pages[0]
		if f.needed(oldest.end, force) {
			return false
		}
		f.pages = f.pages[1:]
		f.changes -= len(oldest.changes)
		f.bytes -= oldest.bytes
		f.first = oldest.end
	}
	return true
}

// needed reports whether a watch that follows the feed has not come to a place yet. Those that are slow, or
// with force all of them, are dropped; f.mu is held.
func (f *feed) needed(end Cursor, force bool) bool {
	needed := false
	for w := range f.watches {
		switch {
		case w.err != nil, w.listing, w.cursor.before(f.first), !w.cursor.before(end):
		case force, !w.asking.Load() && time.Since(time.Unix(0, w.left.Load())) > slowAfter:
			w.err = fmt.Errorf("%w: watch again from revision %d", ErrSlow, w.cursor.Revision)
			f.slow++
		default:
			needed = true
		}
	}
	return needed
}

// add adds a watch that was opened at a state of the store.
func (f *feed) add(w *Watch, state State) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return errClosed()
	case len(f.watches) == 0, f.end.Epoch != state.Epoch:
		f.restart(state)
		f.nudge() // for what was changed since
	case f.end.Revision < state.Revision:
		f.nudge()
	}
	w.left.Store(time.Now().UnixNano())
	f.watches[w] = struct{}{}
	return nil
}

func (f *feed) remove(w *Watch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.watches, w)
	if w.err == nil {
		w.err = errClosed()
	}
	if len(f.watches) == 0 {
		f.pages, f.changes, f.bytes = nil, 0, 0
		f.first = f.end
	}
}

// after returns the changes after a place, up to the end of a page, and the place after those; f.mu is
// held. The place must not be before f.first.
func (f *feed) after(place Cursor) ([]Change, Cursor) {
	at := sort.Search(len(f.pages), func(i int) bool { return place.before(f.pages[i].end) })
	if at == len(f.pages) {
		if place.before(f.end) {
			return nil, f.end // revisions without changes
		}
		return nil, place
	}
	page := f.pages[at]
	end := page.end
	if at == len(f.pages)-1 {
		end = f.end
	}
	skip := sort.Search(len(page.changes), func(i int) bool {
		c := &page.changes[i]
		return c.Revision > place.Revision+1 || c.Revision == place.Revision+1 && c.Index >= place.Skip
	})
	return page.changes[skip:], end
}
