//go:build unix

package sqlite

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.com/roster/directory"
)

// A process that can open no more files is told so, and not that it lacks a permission.
func TestTooManyOpenFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	store := filled(t, path, "Ann")
	var limits syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limits); err != nil {
		t.Fatal(err)
	}
	lowered := limits
	lowered.Cur = 3 // less than are open already
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lowered); err != nil {
		t.Fatal(err)
	}
	store.db.reader.SetMaxIdleConns(0) // a look-up needs a new connection
	_, _, getErr := store.Get(t.Context(), []int32{1})
	_, openErr := Open(t.Context(), path)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limits); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(getErr, directory.ErrUnavailable) || !strings.Contains(getErr.Error(), "too many files are open (the limit of this process is 3)") {
		t.Errorf("a look-up: %v", getErr)
	}
	if openErr == nil || !strings.Contains(openErr.Error(), "too many open files") {
		t.Errorf("opening: %v", openErr)
	}
	wantName(t, store, "Ann")
}
