//go:build !unix

package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// checkMode checks nothing: on these systems the mode does not say who has access.
func checkMode(string, fs.FileMode) error { return nil }

const (
	lockTimeout = 10 * time.Second
	lockRetry   = 10 * time.Millisecond
)

// lockFolder waits until no other process holds the lock on a folder, and takes it.
func lockFolder(folder string) (unlock func(), err error) {
	name := filepath.Join(folder, ".roster-tokens.lock")
	for began := time.Now(); ; time.Sleep(lockRetry) {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err == nil {
			f.Close()
			return func() { os.Remove(name) }, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if time.Since(began) > lockTimeout {
			return nil, fmt.Errorf("another program has held %s for %v: try again, or remove it if there is none", name, lockTimeout)
		}
	}
}

func copyOwnerAndMode(*os.File, fs.FileInfo) error { return nil }

func syncFolder(string) error { return nil }
