//go:build unix

package sqlite

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// lockFile tries to take a lock that ends with the process, or when the file is closed.
func lockFile(file *os.File, alone bool) (bool, error) {
	how := syscall.LOCK_SH
	if alone {
		how = syscall.LOCK_EX
	}
	for {
		err := syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, &os.PathError{Op: "lock", Path: file.Name(), Err: err}
		}
	}
}

// The bytes that SQLite locks in a file, from the pending byte to the end of the shared range. A
// connection to a file with a write-ahead log holds a lock there for as long as it is open.
const (
	sqliteLockStart  = 0x40000000
	sqliteLockLength = 512
)

// holder returns the id of a process that has the file open with SQLite, 0 if there is none. This
// process must not have it open, since closing a file releases the locks that SQLite has on it.
func holder(path string) (int, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: sqliteLockStart, Len: sqliteLockLength}
	if err := syscall.FcntlFlock(file.Fd(), syscall.F_GETLK, &lock); err != nil {
		return 0, &os.PathError{Op: "look for locks", Path: path, Err: err}
	}
	if lock.Type == syscall.F_UNLCK {
		return 0, nil
	}
	return int(lock.Pid), nil
}

// giveTo gives a file that this process made the owner of another one. Only root can; everybody
// else has made it as the user who needs it.
func giveTo(path, like string) {
	info, err := os.Stat(like)
	if err != nil || os.Geteuid() != 0 {
		return
	}
	if was, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = os.Chown(path, int(was.Uid), int(was.Gid))
	}
}

func isReadOnlyFileSystem(err error) bool { return errors.Is(err, syscall.EROFS) }

// outOfFiles reports whether this process, or the machine, can open no more files.
func outOfFiles() (limit uint64, out bool) {
	file, err := os.Open(os.DevNull)
	if err == nil {
		file.Close()
		return 0, false
	}
	if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
		return 0, false
	}
	var limits syscall.Rlimit
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limits)
	return uint64(limits.Cur), true
}

// syncFolder makes new names in a folder durable, so that they survive a power failure.
func syncFolder(folder string) error {
	file, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer file.Close()
	return file.Sync()
}
