//go:build unix

package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"example.com/roster/directory"
)

// A change that does not fit on the disk, and of which a part was written to the log before it was
// committed, looks to SQLite as if something had been committed. It is no change of another program.
func TestAFailedWriteIsNoChange(t *testing.T) {
	store := filled(t, filepath.Join(t.TempDir(), "roster.db"), "Ann")
	before := state(t, store)
	log, err := os.Stat(store.path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	// No file can grow, which is as far as a test can fill a disk.
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	small := limit
	small.Cur = uint64(log.Size())
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		t.Fatal(err)
	}
	lifted := func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
	}
	defer lifted()
	change, err := store.Import(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := change.(*importing).tx.ExecContext(t.Context(), setCache(10)); err != nil {
		t.Fatal(err)
	}
	var many []directory.User
	for id := range int32(5000) {
		many = append(many, directory.User{ID: 10 + id, Name: fmt.Sprint("User ", id)})
	}
	if _, err := change.Add(t.Context(), many); !errors.Is(err, directory.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	_ = change.Rollback() // SQLite may have done so
	lifted()
	if after := state(t, store); after != before {
		t.Errorf("%+v after a write that failed, want %+v", after, before)
	}
	if after, err := writeAll(t, store, many); err != nil || after != before.Revision+1 {
		t.Errorf("revision %d, %v after %d", after, err, before.Revision)
	}
}
