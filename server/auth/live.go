package auth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// pollInterval is how often Watch reads the file, to see whether it is another:
// its content alone tells. That an owner or a time changed does not, and a
// revocation must not be missed for want of it.
const pollInterval = 500 * time.Millisecond

// Live is the set of a file that may change.
type Live struct {
	path string
	log  *slog.Logger
	set  atomic.Pointer[Set]

	digest    [sha256.Size]byte // of the content that set is of
	complaint string            // what was logged of the file as it is now
}

// Open reads a file. Its errors say what is wrong with it and what to do.
func Open(path string, log *slog.Logger) (*Live, error) {
	l := &Live{path: path, log: log}
	if _, err := l.read(); err != nil {
		return nil, err
	}
	return l, nil
}

// Set returns the set as of now.
func (l *Live) Set() *Set { return l.set.Load() }

// Watch follows the file until ctx is done: a change counts within a second. A
// new file that is broken, or no file, is logged and leaves the set as it was,
// since who is half way through writing one means neither to let everybody in
// nor to lock everybody out.
func (l *Live) Watch(ctx context.Context) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.follow()
		}
	}
}

// read takes the file up, and reports whether it is another than before.
func (l *Live) read() (changed bool, err error) {
	content, _, err := load(l.path)
	if err != nil {
		return false, err
	}
	digest := sha256.Sum256(content)
	if l.set.Load() != nil && digest == l.digest {
		return false, nil
	}
	_, set, err := parse(content)
	if err != nil {
		return false, fmt.Errorf("token file %s: %w", l.path, err)
	}
	l.digest = digest
	l.set.Store(set)
	return true, nil
}

// follow reads the file again, and says once what is wrong with it.
func (l *Live) follow() {
	changed, err := l.read()
	if err != nil {
		if err.Error() != l.complaint {
			l.complaint = err.Error()
			l.log.Error("the token file was not read again: the tokens that it had go on counting", "error", err.Error())
		}
		return
	}
	if changed || l.complaint != "" {
		l.complaint = ""
		l.log.Info("tokens read again", "file", l.path, "entries", l.Set().Len())
	}
}
