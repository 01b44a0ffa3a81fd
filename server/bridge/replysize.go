package bridge

import (
	"sync"
	"sync/atomic"
	"time"
)

// A replySize estimates the size of the reply that a running call of a method will get: the mean of recent
// replies, in which each counts for as long as its call took. A plain mean would be too low where large
// replies take longer, since most of the calls that run at a time are of that kind then.
type replySize struct {
	mean atomic.Int64 // bytes

	mu     sync.Mutex
	bytes  float64 // the sum of sizes multiplied by their calls' seconds
	time   float64 // the sum of those seconds
	halved time.Time
}

// replyMemory is how long a reply counts in full. After that it counts half as much, and so on.
const replyMemory = 10 * time.Second

// expected returns the estimate in bytes, 0 if nothing is known yet.
func (r *replySize) expected() int64 { return r.mean.Load() }

// add notes a reply of size bytes to a call that took a time.
func (r *replySize) add(size int, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.halved) > replyMemory {
		r.bytes, r.time, r.halved = r.bytes/2, r.time/2, now
	}
	seconds := max(took, time.Microsecond).Seconds()
	r.bytes += float64(size) * seconds
	r.time += seconds
	r.mean.Store(int64(r.bytes / r.time))
}
