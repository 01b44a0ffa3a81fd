package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/roster/directory"
	"example.com/roster/directory/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Opener {
		path := filepath.Join(t.TempDir(), "roster.db")
		return func() (directory.Store, error) { return Open(t.Context(), path) }
	})
}

func TestOpenRefusesWhatIsNotItsFile(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "notes.txt")
	write(t, text, strings.Repeat("Remember the milk.\n", 100))
	foreign := filepath.Join(dir, "other.db")
	execute(t, foreign, "CREATE TABLE orders (id INTEGER)")

	tests := []struct{ path, want string }{
		{"", "path is empty"},
		{dir, "is a directory: give the name of a file in it"},
		{filepath.Join(dir, "no", "roster.db"), "create it first"},
		{text, "is not a SQLite database"},
		{foreign, "is another program's database"},
		{os.DevNull, "is not a regular file"},
	}
	for _, test := range tests {
		before, _ := os.ReadFile(test.path)
		store, err := Open(t.Context(), test.path)
		if err == nil {
			store.Close()
			t.Errorf("%s: opened", test.path)
			continue
		}
		if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.path) {
			t.Errorf("%s: got %q, want it to name the path and %q", test.path, err, test.want)
		}
		if after, _ := os.ReadFile(test.path); !bytes.Equal(before, after) {
			t.Errorf("%s: the file was changed", test.path)
		}
	}
}

func TestPathsAreTakenAsTheyAre(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, path := range []string{"a b.db", "50%.db", "what?.db", "x#1.db", "ü&=.db", "file:x.db", ":memory:", filepath.Join(t.TempDir(), "q?mode=ro%20.db")} {
		store, err := Open(t.Context(), path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		store.Close()
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestLockedByAnotherProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	store, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := writeAll(t, store, []directory.User{{ID: 1, Name: "A"}}); err != nil {
		t.Fatal(err)
	}
	other := execute(t, path, "BEGIN IMMEDIATE")
	began := time.Now()
	_, err = writeAll(t, store, []directory.User{{ID: 2, Name: "B"}})
	if !errors.Is(err, directory.ErrUnavailable) || !strings.Contains(err.Error(), "another program has locked "+path+" for longer than 5s") {
		t.Fatalf("got %v", err)
	}
	if waited := time.Since(began); waited < busyTimeout-time.Second {
		t.Fatalf("gave up after %v, want %v", waited, busyTimeout)
	}
	if users, _, err := store.Get(t.Context(), []int32{1}); err != nil || len(users) != 1 {
		t.Fatalf("a reader beside the lock: %v, %v", users, err)
	}
	if err := other.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if _, err := writeAll(t, store, []directory.User{{ID: 2, Name: "B"}}); err != nil {
		t.Fatalf("after the lock was let go: %v", err)
	}
}

func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	store, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	var users []directory.User
	for id := range int32(20_000) {
		users = append(users, directory.User{ID: id, Name: fmt.Sprint("User ", id)})
	}
	if _, err := writeAll(t, store, users); err != nil {
		t.Fatal(err)
	}
	store.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 3 * 4096; i < len(data); i++ {
		data[i] = 0xa5
	}
	write(t, path, string(data))
	store, err = Open(t.Context(), path)
	if err == nil {
		defer store.Close()
		_, _, err = store.Get(t.Context(), []int32{15_000})
	}
	if err == nil || !strings.Contains(err.Error(), "is damaged: restore it from a backup") {
		t.Fatalf("got %v", err)
	}
}

func TestImportEndsWithItsContext(t *testing.T) {
	store, err := Open(t.Context(), filepath.Join(t.TempDir(), "roster.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	ctx, cancel := context.WithCancel(t.Context())
	change, err := store.Import(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := change.Add(ctx, []directory.User{{ID: 1, Name: "A"}}); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := change.Commit(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("commit after cancel: %v", err)
	}
	if n, err := store.Count(t.Context()); n != 0 || err != nil {
		t.Fatalf("count %d, %v", n, err)
	}
	if _, err := writeAll(t, store, []directory.User{{ID: 1, Name: "A"}}); err != nil {
		t.Fatalf("the write lock was not let go: %v", err)
	}
}

// writeAll creates or replaces users, and returns the revision.
func writeAll(t *testing.T, store *Store, users []directory.User) (int64, error) {
	t.Helper()
	var change directory.Write
	for _, u := range users {
		change.Updates = append(change.Updates, directory.Update{User: u, Fields: directory.AllFields, Replace: true})
	}
	written, err := store.Write(t.Context(), change)
	return written.State.Revision, err
}

func revisionOf(t *testing.T, store *Store) (int64, error) {
	t.Helper()
	state, err := store.State(t.Context())
	return state.Revision, err
}

func epochOf(t *testing.T, store *Store) (string, error) {
	t.Helper()
	state, err := store.State(t.Context())
	return state.Epoch, err
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// program opens the file as another program would.
type program struct{ db *sql.DB }

func (p program) Exec(statement string) error {
	_, err := p.db.Exec(statement)
	return err
}

// execute runs a statement as another program would, on a connection that stays open until the test
// ends.
func execute(t *testing.T, path, statement string) program {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	p := program{db}
	if err := p.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return p
}
