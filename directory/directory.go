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
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// Config configures the cache of a Directory. The zero value means the defaults.
type Config struct {
	// CacheUsers is how many ids are kept in memory, unknown ones included; 0 means 100,000. A user
	// takes about 300 bytes, and what its renderings have: with those of a Roster server about 540
	// bytes in all, at most 5 KB.
	CacheUsers int
	// PollInterval is how often the store is asked whether another process changed it, and so how
	// old an answer can be; 0 means 250 ms.
	PollInterval time.Duration
	// CompactInterval is how often the store is told to drop the changes that it no longer has to keep;
	// 0 means a minute.
	CompactInterval time.Duration
	// OnWait, if set, is called when a look-up must wait for the store. It gets the context of the
	// look-up and the number of ids that are not in the cache. The look-up continues with the
	// context that it returns, and the store gets that context, too. The look-up calls done when it
	// has ended.
	OnWait func(ctx context.Context, missing int) (waiting context.Context, done func(error))
	// Log gets a line when the store no longer answers, and when it answers again; nil drops it.
	Log *slog.Logger
}

const (
	defaultCacheUsers      = 100_000
	defaultPollInterval    = 250 * time.Millisecond
	defaultCompactInterval = time.Minute
)

// A Directory answers look-ups from a bounded cache in front of a Store.
//
// The cache is coherent with every write made through the Directory: a look-up that begins after a
// write returned sees it. Changes of other processes are seen within Config.PollInterval. The users of
// one look-up are as of one revision, so nobody gets a part of a change.
type Directory struct {
	store Store
	// cache has nil for an id that the store does not know.
	cache *otter.Cache[int32, *Entry]

	// mu is held while entries are added to the cache or removed from it. A hit never locks it.
	mu sync.Mutex
	// loading has the running query for an id. A write removes its ids, so that an answer from
	// before the write is never cached and never shared.
	loading map[int32]*load
	// ahead are loads that have ended and are newer than the cache in some of their ids, waiting is the number of
	// those.
	ahead   []*load
	waiting int
	// renderings are made of every user that enters the cache. They change with mu held.
	renderings atomic.Pointer[[]namedRendering]
	// seen is the state of the store that everything in the cache is as of. It changes with mu held, after
	// what was changed has left the cache.
	seen atomic.Pointer[State]
	// next is the poll that has not begun yet, if somebody waits for it.
	next *poll
	// wake makes follow poll at once. followed is closed when follow has ended.
	wake, followed chan struct{}

	feed *feed

	onWait func(context.Context, int) (context.Context, func(error))
	size   int
	counts counts
	log    *slog.Logger
	status atomic.Pointer[Status]

	stop    context.CancelFunc
	running sync.WaitGroup
}

// New returns a Directory in front of store, which it does not close. Its goroutines end with
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
	if config.CompactInterval == 0 {
		config.CompactInterval = defaultCompactInterval
	}
	state, err := store.State(ctx)
	if err != nil {
		return nil, err
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	following, stop := context.WithCancel(context.Background())
	d := &Directory{
		store:   store,
		cache:   cache,
		loading: make(map[int32]*load),
		wake:    make(chan struct{}, 1),

		followed: make(chan struct{}),
		feed:     newFeed(store),
		onWait:   config.OnWait,
		size:     config.CacheUsers,
		log:      config.Log,
		stop:     stop,
	}
	d.seen.Store(&state)
	d.counts.answered.Store(time.Now().UnixNano())
	d.status.Store(newStatus(nil))
	d.renderings.Store(new([]namedRendering))
	d.running.Go(func() { d.follow(following, config.PollInterval) })
	d.running.Go(func() { d.feed.run(following) })
	d.running.Go(func() { d.compact(following, config.CompactInterval) })
	return d, nil
}

// Close ends the Directory's goroutines and its watches. The store stays open.
func (d *Directory) Close() {
	d.stop()
	d.running.Wait()
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
			users = append(users, &e.record.User)
		}
	}
	return users, nil
}

// Entries is Users with their renderings: it appends to found an Entry for each of ids, in the
// order asked, nil where there is no such user.
func (d *Directory) Entries(ctx context.Context, found []*Entry, ids []int32) ([]*Entry, error) {
	start := len(found)
	found = slices.Grow(found, len(ids))
	seen := d.seen.Load()
	for _, id := range ids {
		e, ok := d.cache.GetIfPresent(id)
		if !ok {
			entries, err := d.entries(ctx, ids)
			return append(found[:start], entries...), err
		}
		found = append(found, e)
	}
	if d.seen.Load() != seen {
		entries, err := d.entries(ctx, ids)
		return append(found[:start], entries...), err
	}
	d.counts.hits.Add(uint64(len(ids)))
	return found, nil
}

// entries returns an entry for each of ids, nil where there is no such user.
func (d *Directory) entries(ctx context.Context, ids []int32) ([]*Entry, error) {
	entries := make([]*Entry, len(ids))
	seen := d.seen.Load()
	missing := d.cached(ids, entries)
	if d.seen.Load() != seen {
		// A change came in between: some entries may be from before it, and some from after it.
		d.mu.Lock()
		seen, missing = d.seen.Load(), d.cached(ids, entries)
		d.mu.Unlock()
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
	err := d.load(ctx, ids, missing, entries, seen)
	waited(err)
	if err != nil {
		return nil, err
	}
	return entries, nil
}
