package directory

import (
	"sync/atomic"
	"time"
)

// Stats is what a Directory has done so far, and how it stands.
type Stats struct {
	// Hits and Misses are ids that were in the cache, or were not.
	Hits, Misses uint64
	// Cached is how many ids the cache has, unknown ones included, about;
	// Capacity is the most it may have.
	Cached, Capacity int
	// Loads are queries for missing ids, one for many of them, that the store
	// answered, LoadFailures those that it did not.
	Loads, LoadFailures uint64
	// Answered is when the store last told its revision, which it is asked for
	// every Config.PollInterval: what another process committed before that is
	// seen.
	Answered time.Time
}

type counts struct {
	hits, misses, loads, failures atomic.Uint64
	answered                      atomic.Int64 // Unix time in nanoseconds
}

// Stats returns what the Directory has done so far.
func (d *Directory) Stats() Stats {
	return Stats{
		Hits:         d.counts.hits.Load(),
		Misses:       d.counts.misses.Load(),
		Cached:       d.cache.EstimatedSize(),
		Capacity:     d.size,
		Loads:        d.counts.loads.Load(),
		LoadFailures: d.counts.failures.Load(),
		Answered:     time.Unix(0, d.counts.answered.Load()),
	}
}
