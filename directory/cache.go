package directory

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// loadTimeout bounds a query that several callers may be waiting for, each with a deadline of its own.
const loadTimeout = 10 * time.Second

// A load is one query for ids that were missing from the cache.
type load struct {
	ids   []int32
	done  chan struct{} // closed when found and err are set
	found map[int32]*Entry
	err   error
}

// load fills entries at the missing indexes: if join is set, it joins the queries under way that cover
// an id, and makes one for all the others.
func (d *Directory) load(ctx context.Context, ids []int32, missing []int, entries []*Entry, join bool) error {
	if err := d.Status().Err; err != nil {
		return err // a query would only wait, like those before it
	}
	var own *load
	from := make([]*load, len(missing))
	d.mu.Lock()
	for n, i := range missing {
		id := ids[i]
		l := d.loading[id]
		if l == nil || !join && l != own {
			// A load may have ended since the caller looked into the cache.
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
		from[n] = l
	}
	d.mu.Unlock()
	if own != nil {
		// It has a goroutine of its own, since other callers wait for it after this one has given
		// up.
		go d.fetch(context.WithoutCancel(ctx), own)
	}
	var again []int
	for n, i := range missing {
		l := from[n]
		if l == nil {
			continue
		}
		err := d.wait(ctx, l)
		if errors.Is(err, ErrDamaged) && l != own {
			again = append(again, i) // it may be another id of that query that cannot be read
			continue
		}
		if err != nil {
			return err
		}
		entries[i] = l.found[ids[i]]
	}
	if len(again) > 0 {
		return d.load(ctx, ids, again, entries, false)
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
	l.found, l.err = d.query(ctx, l.ids)
	if l.err == nil {
		d.counts.loads.Add(1)
	} else {
		d.counts.failures.Add(1)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range l.ids {
		if d.loading[id] != l {
			continue // a write took it out
		}
		delete(d.loading, id)
		if l.err == nil {
			d.cache.Set(id, l.found[id])
		}
	}
}

// query asks the store. A panic of the store becomes an error: it would end the process, since this
// goroutine belongs to no request.
func (d *Directory) query(ctx context.Context, ids []int32) (found map[int32]*Entry, err error) {
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
	records, err := d.store.Get(ctx, ids)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: no answer within %v", ErrUnavailable, loadTimeout)
	}
	if err != nil {
		return nil, err
	}
	found = make(map[int32]*Entry, len(records))
	renderings := *d.renderings.Load()
	for i := range records {
		e, err := newEntry(&records[i], epoch, renderings)
		if err != nil {
			return nil, err
		}
		found[records[i].ID] = e
	}
	return found, nil
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
	d.cache.InvalidateAll()
}
