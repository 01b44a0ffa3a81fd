package sqlite

import (
	"errors"
	"path/filepath"
	"testing"

	"example.com/roster/directory"
)

// A write for which there is no space says so. Reads go on, and so do writes when there is space.
func TestNoSpaceIsLeft(t *testing.T) {
	store := filled(t, filepath.Join(t.TempDir(), "roster.db"), "Ann")
	limit := func(pragma string) {
		t.Helper()
		if _, err := store.db.writer.ExecContext(t.Context(), pragma); err != nil {
			t.Fatal(err)
		}
	}
	limit("PRAGMA max_page_count = 1") // as many as there are
	var many []directory.User
	for id := range int32(1000) {
		many = append(many, directory.User{ID: 10 + id, Name: "Ben"})
	}
	before := state(t, store)
	if _, err := writeAll(t, store, many); !errors.Is(err, directory.ErrFull) || !errors.Is(err, directory.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	if users, _, err := store.Get(t.Context(), []int32{1, 10}); err != nil || len(users) != 1 {
		t.Errorf("got %v, %v", users, err)
	}
	limit("PRAGMA max_page_count = 1000000")
	if after, err := writeAll(t, store, many); err != nil || after != before.Revision+1 {
		t.Errorf("revision %d, %v after %d", after, err, before.Revision)
	}
}

// What was reported as done is on disk: the log is synced with each change. e2e/faults cuts the power.
func TestWritesAreSynced(t *testing.T) {
	store := filled(t, filepath.Join(t.TempDir(), "roster.db"), "Ann")
	var level int
	var mode string
	err := store.db.writer.QueryRowContext(t.Context(), "SELECT synchronous, journal_mode FROM pragma_synchronous, pragma_journal_mode").Scan(&level, &mode)
	if err != nil || level != 2 || mode != "wal" {
		t.Errorf("synchronous=%d, journal_mode=%s, %v", level, mode, err)
	}
}
