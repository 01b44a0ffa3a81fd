package directory

import (
	"sync/atomic"
	"time"
)

// Stats counts what a Directory has done, and has the size of its cache.
type Stats struct {
	// Hits and Misses count ids that were in the cache and ids that were not.
	Hits, Misses uint64
	// Cached is about how many ids the cache has, unknown ones included; Capacity is its maximum.
	Cached, Capacity int
	// Loads counts the queries for missing ids that the store answered, LoadFailures those that
	// failed. One query asks for many ids.
	Loads, LoadFailures uint64
	// Answered is when the store last returned its state. Changes of other processes before that
	// time are seen.
	Answered time.Time
	// Writes counts the changes that were made through this Directory, imports included.
	Writes uint64
	// Watches is how many watches are open. WatchesSlow counts those that were dropped since their
	// caller did not keep up, WatchesLost those whose place is no longer in the history.
	Watches                  int
	WatchesSlow, WatchesLost uint64
}

type counts struct {
	hits, misses, loads, failures, writes atomic.Uint64
	answered                              atomic.Int64 // Unix time in nanoseconds
}

// Stats returns what the Directory has done so far.
func (d *Directory) Stats() Stats {
	watches, slow, lost := d.feed.counts()
	return Stats{
		Hits:         d.counts.hits.Load(),
		Misses:       d.counts.misses.Load(),
		Cached:       d.cache.EstimatedSize(),
		Capacity:     d.size,
		Loads:        d.counts.loads.Load(),
		LoadFailures: d.counts.failures.Load(),
		Answered:     time.Unix(0, d.counts.answered.Load()),
		Writes:       d.counts.writes.Load(),
		Watches:      watches,
		WatchesSlow:  slow,
		WatchesLost:  lost,
	}
}
