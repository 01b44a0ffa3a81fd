package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"example.com/roster/directory"
)

// lockSuffix names the file that says who uses a store. Every process that has the store open holds
// a shared lock on it, and one that replaces the store an exclusive lock. The kernel releases both
// when a process ends, however it ends. The last process that closes the store removes the file.
//
// SQLite's own locks could not say it: they are on the file that is replaced, and there are none on
// a file that is missing or damaged, which are the cases that a restore is for.
const lockSuffix = "-lock"

// A storeLock is held on a store by its path. A nil one is that of a user who may not write beside
// the store, or of a file system without locks.
type storeLock struct{ file *os.File }

// errInUse says that another process has the store open.
var errInUse = errors.New("in use")

// lockShared takes a shared lock, and waits for a process that has the exclusive one.
func lockShared(ctx context.Context, store string) (*storeLock, error) {
	deadline := time.Now().Add(busyTimeout)
	for {
		lock, err := takeLock(store, false)
		if !errors.Is(err, errInUse) {
			return lock, err
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%w: %s is being opened for the first time, or restored, by a process that has not ended after %v",
				directory.ErrUnavailable, store, busyTimeout)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// takeLock takes the exclusive lock if alone is set, else a shared one. It fails with errInUse where
// it would have to wait.
func takeLock(store string, alone bool) (*storeLock, error) {
	store = followLinks(store)
	path := store + lockSuffix
	for {
		file, err := openLock(path, store)
		if errors.Is(err, fs.ErrPermission) || isReadOnlyFileSystem(err) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("open the lock of the store: %w", err)
		}
		locked, err := lockFile(file, alone)
		if errors.Is(err, errors.ErrUnsupported) {
			file.Close()
			return nil, nil
		}
		if err == nil && !locked {
			err = errInUse
		}
		if err != nil {
			file.Close()
			return nil, err
		}
		// The process that had the lock before may have removed the file.
		ours, err := file.Stat()
		if now, statErr := os.Stat(path); err == nil && statErr == nil && os.SameFile(ours, now) {
			return &storeLock{file}, nil
		}
		file.Close()
	}
}

// openLock opens the file of the lock, which it makes with the owner and the mode of the store, so
// that root takes it away from nobody. Locking needs no permission to write.
func openLock(path, store string) (*os.File, error) {
	file, err := os.Open(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	like, mode := filepath.Dir(store), os.FileMode(0o600)
	if info, err := os.Stat(store); err == nil {
		like, mode = store, info.Mode().Perm()|0o400
	}
	file, err = os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, mode)
	switch {
	case errors.Is(err, fs.ErrExist):
		return os.Open(path) // another process has made it
	case err != nil:
		return nil, err
	}
	giveTo(path, like)
	return file, nil
}

// share turns the exclusive lock into a shared one. For a moment there may be none: if another
// process takes the exclusive lock in it, share waits for that process.
func (l *storeLock) share(ctx context.Context, store string) (*storeLock, error) {
	if l == nil {
		return nil, nil
	}
	if locked, err := lockFile(l.file, false); err == nil && locked {
		return l, nil
	}
	l.file.Close()
	return lockShared(ctx, store)
}

// alone tries to turn the lock into the exclusive one. Where it reports false the lock may be lost.
func (l *storeLock) alone() bool {
	if l == nil {
		return false
	}
	locked, err := lockFile(l.file, true)
	return err == nil && locked
}

// release gives the lock up, and removes its file if nobody else has the lock.
func (l *storeLock) release() {
	if l == nil {
		return
	}
	if l.alone() {
		os.Remove(l.file.Name())
	}
	l.file.Close()
}

// followLinks returns the path of the file that path leads to, so that all processes mean the same
// file, and SQLite's log is beside it.
func followLinks(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}
