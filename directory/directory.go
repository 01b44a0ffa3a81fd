// Package directory is the domain: users, the Store that keeps them, and the Directory that answers
// from memory what the store said before.
//
// It knows nothing of any database, and nothing of any protocol: a server registers how it wants
// users encoded (Directory.Render), and the Directory keeps the encodings beside them. Stores live
// in packages of their own (sqlite), and storetest is the suite that each of them passes.
//
//	store, err := sqlite.Open(ctx, "roster.db")
//	dir, err := directory.New(ctx, store, directory.Config{})
//	defer dir.Close()
//	users, err := dir.Users(ctx, []int32{1, 2, 1})
package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// Config configures the cache of a Directory. The zero value means the defaults.
type Config struct {
	// CacheUsers is how many ids are kept in memory, unknown ones included; 0 means 100,000. A user
	// takes about 240 bytes, and what its renderings have: with those of a Roster server about 480
	// bytes in all, at most 5 KB.
	CacheUsers int
	// PollInterval is how often the store is asked whether another process changed it, and so how
	// old an answer can be; 0 means 250 ms.
	PollInterval time.Duration
	// OnWait, if set, is called when a look-up must wait for the store. It gets the context of the
	// look-up and the number of ids that are not in the cache. The look-up continues with the
	// context that it returns, and the store gets that context, too. The look-up calls done when it
	// has ended.
	OnWait func(ctx context.Context, missing int) (waiting context.Context, done func(error))
	// Log gets a line when the store no longer answers, and when it answers again; nil drops it.
	Log *slog.Logger
}

const (
	defaultCacheUsers   = 100_000
	defaultPollInterval = 250 * time.Millisecond
	// loadTimeout bounds a query that several callers may be waiting for, each with a deadline of
	// its own.
	loadTimeout = 10 * time.Second
)

// A Directory answers look-ups from a bounded cache in front of a Store.
//
// The cache is coherent with every write made through the Directory: a look-up that begins after a
// write returned sees it. Changes of other processes are seen within Config.PollInterval.
type Directory struct {
	store Store
	// cache has nil for an id that the store does not know.
	cache *otter.Cache[int32, *Entry]

	// mu is held while entries are added to the cache or removed from it. A hit never locks it.
	mu sync.Mutex
	// loading has the running query for an id. A write removes its ids, so that an answer from
	// before the write is never cached and never shared.
	loading map[int32]*load
	// renderings are made of every user that enters the cache. They change with mu held.
	renderings atomic.Pointer[[]namedRendering]
	// revision is a revision of the store that the cache is no older than.
	revision int64

	onWait func(context.Context, int) (context.Context, func(error))
	size   int
	counts counts
	log    *slog.Logger
	status atomic.Pointer[Status]

	stop    context.CancelFunc
	stopped chan struct{}
}

// A load is one query for ids that were missing from the cache.
type load struct {
	ids   []int32
	done  chan struct{} // closed when found and err are set
	found map[int32]*Entry
	err   error
}

// New returns a Directory in front of store, which it does not close. Its only goroutine ends with
// Close. New fails if the store does not answer.
func New(ctx context.Context, store Store, config Config) (*Directory, error) {
	if config.CacheUsers == 0 {
		config.CacheUsers = defaultCacheUsers
	}
	if config.PollInterval == 0 {
		config.PollInterval = defaultPollInterval
	}
	cache, err := otter.New(&otter.Options[int32, *Entry]{MaximumSize: config.CacheUsers})
	if err != nil {
		return nil, fmt.Errorf("cache of %d users: %w", config.CacheUsers, err)
	}
	revision, err := store.Revision(ctx)
	if err != nil {
		return nil, err
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	following, stop := context.WithCancel(context.Background())
	d := &Directory{
		store:    store,
		cache:    cache,
		loading:  make(map[int32]*load),
		revision: revision,
		onWait:   config.OnWait,
		size:     config.CacheUsers,
		log:      config.Log,
		stop:     stop,
		stopped:  make(chan struct{}),
	}
	d.counts.answered.Store(time.Now().UnixNano())
	d.status.Store(newStatus(nil))
	d.renderings.Store(new([]namedRendering))
	go d.follow(following, config.PollInterval)
	return d, nil
}

// Close ends the Directory's goroutine. The store stays open.
func (d *Directory) Close() {
	d.stop()
	<-d.stopped
}

// Users returns the users with these ids in the order asked: a repeated id is answered each time,
// an unknown one left out. The users are shared and must not be changed. Errors are the Store's.
func (d *Directory) Users(ctx context.Context, ids []int32) ([]*User, error) {
	entries, err := d.entries(ctx, ids)
	if err != nil {
		return nil, err
	}
	users := make([]*User, 0, len(ids))
	for _, e := range entries {
		if e != nil {
			users = append(users, &e.user)
		}
	}
	return users, nil
}

// Entries is Users with their renderings: it appends to found an Entry for each of ids, in the
// order asked, nil where there is no such user.
func (d *Directory) Entries(ctx context.Context, found []*Entry, ids []int32) ([]*Entry, error) {
	start := len(found)
	found = slices.Grow(found, len(ids))
	for _, id := range ids {
		e, ok := d.cache.GetIfPresent(id)
		if !ok {
			entries, err := d.entries(ctx, ids)
			return append(found[:start], entries...), err
		}
		found = append(found, e)
	}
	d.counts.hits.Add(uint64(len(ids)))
	return found, nil
}

// entries returns an entry for each of ids, nil where there is no such user.
func (d *Directory) entries(ctx context.Context, ids []int32) ([]*Entry, error) {
	entries := make([]*Entry, len(ids))
	var missing []int // indexes into ids
	for i, id := range ids {
		e, ok := d.cache.GetIfPresent(id)
		if !ok {
			missing = append(missing, i)
		}
		entries[i] = e
	}
	d.counts.hits.Add(uint64(len(ids) - len(missing)))
	if len(missing) == 0 {
		return entries, nil
	}
	d.counts.misses.Add(uint64(len(missing)))
	waited := func(error) {}
	if d.onWait != nil {
		ctx, waited = d.onWait(ctx, len(missing))
	}
	err := d.load(ctx, ids, missing, entries, true)
	waited(err)
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// Put is Store.Put of the users as [Normalize] returns them, seen by every look-up that begins after
// it returned.
func (d *Directory) Put(ctx context.Context, users []User) error {
	ids := make([]int32, len(users))
	normal := make([]User, len(users))
	for i := range users {
		ids[i] = users[i].ID
		normal[i], _ = Normalize(users[i]) // the store refuses one that is invalid
	}
	revision, err := d.store.Put(ctx, normal)
	d.wrote(ids, revision, err)
	return err
}

// Delete is Store.Delete, seen by every look-up that begins after it returned.
func (d *Directory) Delete(ctx context.Context, ids []int32) error {
	revision, err := d.store.Delete(ctx, ids)
	d.wrote(ids, revision, err)
	return err
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
	users, err := d.store.Get(ctx, ids)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: no answer within %v", ErrUnavailable, loadTimeout)
	}
	if err != nil {
		return nil, err
	}
	found = make(map[int32]*Entry, len(users))
	renderings := *d.renderings.Load()
	for _, user := range users {
		e, err := newEntry(&user, renderings)
		if err != nil {
			return nil, err
		}
		found[user.ID] = e
	}
	return found, nil
}

// wrote removes from the cache what a write through this Directory changed. If the revision rose by
// more than that write, another process has written too, and it removes everything.
func (d *Directory) wrote(ids []int32, revision int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err != nil:
		// The write may have been committed in spite of the error; then follow sees its revision.
		d.drop(ids)
	case revision <= d.revision:
		// follow, or a later write through this Directory, has emptied the cache already.
	case revision == d.revision+1:
		d.revision = revision
		d.drop(ids)
	default:
		d.revision = revision
		d.dropAll()
	}
}

// follow asks the store for its revision, empties the cache when it has changed, and keeps the
// status.
func (d *Directory) follow(ctx context.Context, interval time.Duration) {
	defer close(d.stopped)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		revision, err := d.ask(ctx)
		if err != nil {
			continue // look-ups are still answered from the cache
		}
		d.counts.answered.Store(time.Now().UnixNano())
		d.mu.Lock()
		if revision != d.revision {
			d.revision = revision
			d.dropAll()
		}
		d.mu.Unlock()
	}
}

// drop removes ids from the cache; d.mu is held.
func (d *Directory) drop(ids []int32) {
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
