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
	// Answered is when the store last returned its revision. Changes of other processes before that
	// time are seen.
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
