package directory

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"
)

// loadTimeout bounds a query that several callers may be waiting for, each with a deadline of its own.
const loadTimeout = 10 * time.Second

// maxAhead is how many ids wait at most for the cache to come to the state that they were read at.
const maxAhead = 4096

// A load is one query for ids, most of which were missing from the cache.
type load struct {
	ids  []int32
	done chan struct{} // closed when the others are set
	// found has the users as the store had them at state, which may be newer than seen.
	found map[int32]*Entry
	state State
	err   error
}

// validAt reports whether the load found for an id what the store had at state, too.
func (l *load) validAt(state *State, id int32) bool {
	if l.state.Epoch != state.Epoch {
		return false
	}
	if l.state.Revision <= state.Revision {
		return true // a change in between would have taken the id out of the load
	}
	// Nobody knows since when there has been no such user.
	e := l.found[id]
	return e != nil && e.record.Revision <= state.Revision
}

// cached sets entries to what the cache has for ids, and returns the indexes of those that it lacks. All of
// it is as of d.seen if that did not change meanwhile.
func (d *Directory) cached(ids []int32, entries []*Entry) (missing []int) {
	for i, id := range ids {
		e, ok := d.cache.GetIfPresent(id)
		if !ok {
			missing = append(missing, i)
		}
		entries[i] = e
	}
	return missing
}

// load sets entries at the missing indexes. The others are from the cache, as of seen. All are as of
// one state of the store in the end, so that nobody gets a part of a change.
func (d *Directory) load(ctx context.Context, ids []int32, missing []int, entries []*Entry, seen *State) error {
	if err := d.Status().Err; err != nil {
		return err // a query would only wait, like those before it
	}
	from := make([]*load, len(ids)) // nil for what is from the cache
	for again := false; len(missing) > 0; again = true {
		d.mu.Lock()
		if now := d.seen.Load(); now != seen {
			seen, missing = now, d.cached(ids, entries)
			clear(from)
		}
		own := d.join(ids, missing, entries, from, !again)
		d.mu.Unlock()
		if own != nil {
			// It has a goroutine of its own, since other callers wait for it after this one has
			// given up.
			go d.fetch(context.WithoutCancel(ctx), own)
		}
		var failed []int
		for _, i := range missing {
			l := from[i]
			if l == nil {
				continue
			}
			err := d.wait(ctx, l)
			if errors.Is(err, ErrDamaged) && l != own {
				failed = append(failed, i) // it may be another id of that query that cannot be read
				continue
			}
			if err != nil {
				return err
			}
			entries[i] = l.found[ids[i]]
		}
		missing = failed
	}
	if !together(ids, from, seen) {
		return d.loadAll(ctx, ids, entries)
	}
	return nil
}

// join finds a load for each missing id, or its entry if a load has ended since the caller looked into
// the cache. With others, loads under way are joined; all that is left is for a new load, own, which is
// nil if there is nothing for it. d.mu is held.
func (d *Directory) join(ids []int32, missing []int, entries []*Entry, from []*load, others bool) (own *load) {
	for _, i := range missing {
		id := ids[i]
		l := d.loading[id]
		if l == nil || !others && l != own {
			if e, ok := d.cache.GetIfPresent(id); ok {
				entries[i] = e
				continue
			}
			if own == nil {
				own = &load{done: make(chan struct{})}
			}
			own.ids = append(own.ids, id)
			d.loading[id] = own
			l = own
		}
		from[i] = l
	}
	return own
}

// together reports whether there is one state of the store that all of ids are as of: what is from the
// cache, where from is nil, is as of seen.
func together(ids []int32, from []*load, seen *State) bool {
	same, valid := true, true
	for i, l := range from {
		same = same && l == from[0]
		valid = valid && (l == nil || l.validAt(seen, ids[i]))
	}
	return same || valid
}

// loadAll sets all entries by one query. What it shows to be old leaves the cache, so that nobody who saw
// the new goes back to it.
func (d *Directory) loadAll(ctx context.Context, ids []int32, entries []*Entry) error {
	l := &load{ids: slices.Clone(ids), done: make(chan struct{})} // the caller may go before the query ends
	go d.fetch(context.WithoutCancel(ctx), l)
	if err := d.wait(ctx, l); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, id := range ids {
		e := l.found[id]
		entries[i] = e
		cached, ok := d.cache.GetIfPresent(id)
		if ok && (e == nil || cached == nil || e.record.Revision != cached.record.Revision) {
			d.cache.Invalidate(id)
		}
	}
	return nil
}

// wait waits for l, but fails at once while the store is known not to answer.
func (d *Directory) wait(ctx context.Context, l *load) error {
	for {
		status := d.Status()
		if status.Err != nil {
			select {
			case <-l.done:
				return l.err
			default:
				return status.Err
			}
		}
		select {
		case <-l.done:
			return l.err
		case <-status.Changed():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fetch runs the query of a load and caches the users that were not changed meanwhile.
func (d *Directory) fetch(ctx context.Context, l *load) {
	defer close(l.done)
	l.found, l.state, l.err = d.query(ctx, l.ids)
	if l.err == nil {
		d.counts.loads.Add(1)
	} else {
		d.counts.failures.Add(1)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keep(l)
}

// keep caches what a load has found, except for the ids that a change took out of it. What is newer than
// the cache stays in the load, where look-ups find it, until advance comes to it. d.mu is held.
func (d *Directory) keep(l *load) {
	seen := d.seen.Load()
	waiting := 0
	for _, id := range l.ids {
		if d.loading[id] != l {
			continue
		}
		valid := l.err == nil && l.validAt(seen, id)
		if !valid && l.err == nil && l.state.Epoch == seen.Epoch && d.waiting+waiting < maxAhead {
			waiting++
			continue
		}
		delete(d.loading, id)
		if valid {
			d.cache.Set(id, l.found[id])
		}
	}
	if waiting > 0 {
		d.ahead = append(d.ahead, l)
		d.waiting += waiting
		d.nudge()
	}
}

// advance says that the cache is as new as state, after what was changed has left it: so a look-up that
// finds the same d.seen before and after it has nothing from before a change and nothing from after
// it. d.mu is held.
func (d *Directory) advance(state *State) {
	d.seen.Store(state)
	loads := d.ahead
	d.ahead, d.waiting = nil, 0
	for _, l := range loads {
		d.keep(l)
	}
}

// query asks the store. A panic of the store becomes an error: it would end the process, since this
// goroutine belongs to no request.
func (d *Directory) query(ctx context.Context, ids []int32) (found map[int32]*Entry, state State, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("look up %d ids: panic: %v\n%s", len(ids), value, debug.Stack())
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	// The epoch is older than the users, never newer: if it changes while the store is asked, follow
	// drops what this query finds.
	epoch := d.State().Epoch
	records, state, err := d.store.Get(ctx, ids)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: no answer within %v", ErrUnavailable, loadTimeout)
	}
	if err != nil {
		return nil, state, err
	}
	found = make(map[int32]*Entry, len(records))
	renderings := *d.renderings.Load()
	for i := range records {
		e, err := newEntry(&records[i], epoch, renderings)
		if err != nil {
			return nil, state, err
		}
		found[records[i].ID] = e
	}
	return found, state, nil
}

// drop removes ids from the cache; d.mu is held.
func (d *Directory) drop(ids []int32) {
	if faultyDrop(ids) {
		return
	}
	for _, id := range ids {
		delete(d.loading, id)
		d.cache.Invalidate(id)
	}
}

// dropAll empties the cache; d.mu is held.
func (d *Directory) dropAll() {
	clear(d.loading)
	d.ahead, d.waiting = nil, 0
	d.cache.InvalidateAll()
}
