// Package lograte bounds how many lines of one kind go into a log, so that a stranger who causes them
// cannot fill a disk, and says in the next line how many were left out.
//
//	if leftOut, ok := limit.Allow(); ok {
//		log.LogAttrs(ctx, slog.LevelWarn, "caller refused", append(attrs, lograte.LeftOut(leftOut)...)...)
//	}
package lograte

import (
	"log/slog"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// A Limit bounds the lines of one kind. It is safe for concurrent use.
type Limit struct {
	bucket  *rate.Limiter
	leftOut atomic.Int64 // lines since the last that was allowed
}

// New returns a limit of burst lines at once, and after that as many as every has it.
func New(every rate.Limit, burst int) *Limit { return &Limit{bucket: rate.NewLimiter(every, burst)} }

// Allow tells whether one more line may be logged, and how many were left out since the last.
func (l *Limit) Allow() (leftOut int64, ok bool) {
	if !l.bucket.Allow() {
		l.leftOut.Add(1)
		return 0, false
	}
	return l.leftOut.Swap(0), true
}

// LeftOut is the attribute of a line that says how many before it were left out; none if there were
// none.
func LeftOut(n int64) []slog.Attr {
	if n == 0 {
		return nil
	}
	return []slog.Attr{slog.Int64("left_out", n)}
}
