package auth

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// pollInterval is how often Watch looks whether the file is another. Looking
// is one system call, and works on every file system.
const pollInterval = 500 * time.Millisecond

// Live is the set of a file that may change.
type Live struct {
	path string
	log  *slog.Logger
	set  atomic.Pointer[Set]
	seen fs.FileInfo // the file that was read last, well or not; nil if there was none
}

// Open reads a file. Its errors say what is wrong with it and what to do.
func Open(path string, log *slog.Logger) (*Live, error) {
	entries, info, err := read(path)
	if err != nil {
		return nil, err
	}
	l := &Live{path: path, log: log, seen: info}
	set, err := NewSet(entries)
	if err != nil {
		return nil, err
	}
	l.set.Store(set)
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

// follow reads the file if it is not the one that was read last.
func (l *Live) follow() {
	info, err := os.Stat(l.path)
	if err != nil {
		info = nil
	}
	if same(info, l.seen) {
		return
	}
	entries, read, err := read(l.path)
	if read == nil {
		read = info
	}
	l.seen = read
	set := (*Set)(nil)
	if err == nil {
		set, err = NewSet(entries)
	}
	if err != nil {
		l.log.Error("the token file was not read again: the tokens that it had go on counting", "error", err.Error())
		return
	}
	l.set.Store(set)
	l.log.Info("tokens read again", "file", l.path, "entries", set.Len())
}

// same tells whether two looks saw the same file with the same content.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
}
