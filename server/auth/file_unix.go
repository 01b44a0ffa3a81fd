//go:build unix

package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// checkMode refuses a file that others may read, which would show them the hashes, or write, which
// would let them add a token.
func checkMode(path string, mode fs.FileMode) error {
	perm := mode.Perm()
	switch {
	case perm&0o007 != 0:
		return fmt.Errorf("token file %s: every user of this machine has access to it (mode %04o): run chmod o= %s", path, perm, path)
	case perm&0o020 != 0:
		return fmt.Errorf("token file %s: its group may change it (mode %04o): run chmod g-w %s", path, perm, path)
	}
	return nil
}

const (
	lockTimeout = 10 * time.Second
	lockRetry   = 10 * time.Millisecond
)

// lockFolder waits until no other process holds the lock on a folder, and takes it. The lock is on
// the folder because the files in it are replaced.
func lockFolder(folder string) (unlock func(), err error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	for began := time.Now(); ; time.Sleep(lockRetry) {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil // which releases the lock
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", folder, err)
		}
		if time.Since(began) > lockTimeout {
			f.Close()
			return nil, fmt.Errorf("another program has held the lock on %s for %v: try again", folder, lockTimeout)
		}
	}
}

// copyOwnerAndMode gives file the mode, owner and group of old.
func copyOwnerAndMode(file *os.File, old fs.FileInfo) error {
	if was, ok := old.Sys().(*syscall.Stat_t); ok {
		if err := file.Chown(int(was.Uid), int(was.Gid)); err != nil {
			return fmt.Errorf("it belongs to user %d and group %d, and this user may not create a file that does: run this as that user or as root", was.Uid, was.Gid)
		}
	}
	return file.Chmod(old.Mode().Perm())
}

// syncFolder makes a rename durable, so that it survives a power failure.
func syncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
