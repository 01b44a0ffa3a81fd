package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"example.com/roster/directory"
)

// The sqlite3 program changes a file that is open, and each process notices it at its next look.
func TestAnotherProgramChangesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	store, second := filled(t, path, "Ann"), filled(t, path, "Ann")
	before, beforeSecond := revision(t, store), revision(t, second)
	if again := revision(t, store); again != before {
		t.Fatalf("the revision rose from %d to %d by itself", before, again)
	}
	for _, statement := range []string{"UPDATE users SET name = 'Ben' WHERE id = 1", "DELETE FROM users WHERE id = 1"} {
		shell(t, path, statement)
		after, afterSecond := revision(t, store), revision(t, second)
		if after <= before || afterSecond <= beforeSecond {
			t.Errorf("%s: the revision went from %d to %d, and in the second process from %d to %d", statement, before, after, beforeSecond, afterSecond)
		}
		before, beforeSecond = revision(t, store), revision(t, second)
	}
	if before != beforeSecond {
		t.Errorf("two processes see the revisions %d and %d", before, beforeSecond)
	}
	for range 3 {
		if again := revision(t, store); again != before {
			t.Fatalf("the revision goes on rising: %d, %d", before, again)
		}
	}
	if users, _, err := store.Get(t.Context(), []int32{1}); err != nil || len(users) != 0 {
		t.Errorf("got %v, %v", users, err)
	}
}

// A new id is above those that another program has given, and so replaces nobody: at once, and if no process
// had the store open then.
func TestANewIDAfterAnotherProgramAddedUsers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	insert := func(id int32) string {
		return fmt.Sprintf("INSERT INTO users (id, name, age, email, revision, created, updated) VALUES (%d, 'Shell', 1, '', 1, 1, 1)", id)
	}
	anyID := directory.Write{Creates: []directory.Create{{User: directory.User{Name: "New"}, NewID: true}}}
	create := func(store *Store, want int32) {
		t.Helper()
		written, err := store.Write(t.Context(), anyID)
		if err != nil || written.Created[0].ID != want {
			t.Errorf("created %+v, %v, want the id %d", written.Created, err, want)
		}
	}
	store := filled(t, path, "Ann")
	shell(t, path, insert(2))
	create(store, 3)
	// The id stays used when its user goes.
	shell(t, path, insert(10))
	if _, err := store.Write(t.Context(), directory.Write{Deletes: []directory.Delete{{ID: 10}}}); err != nil {
		t.Fatal(err)
	}
	create(store, 11)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	shell(t, path, insert(12))
	again := openWith(t, path, History{})
	create(again, 13)
	if n := count(t, again, "SELECT count(*) FROM users WHERE name = 'Shell'"); n != 2 {
		t.Errorf("%d users of the other program are left, want 2", n)
	}
}

// What another program has added is found by its name, and its email is taken: at once, and if no process had
// the store open then. Whoever followed the history has to begin anew.
func TestAnotherProgramAddsUsers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	store := filled(t, path, "Ann")
	insert := func(id int) {
		t.Helper()
		shell(t, path, fmt.Sprintf("INSERT INTO users (id, name, age, email, revision, created, updated) VALUES (%d, 'ÄNNE %[1]d', 1, 'Ä%[1]d@example.com', 1, 1, 1)", id))
	}
	expect := func(id int, before directory.State) {
		t.Helper()
		taken := directory.User{ID: 99, Name: "New", Email: fmt.Sprintf("ä%d@example.com", id)}
		if _, err := store.Write(t.Context(), directory.Write{Creates: []directory.Create{{User: taken}}}); !errors.Is(err, directory.ErrEmailTaken) {
			t.Errorf("the email of %d is free: %v", id, err)
		}
		page, err := store.List(t.Context(), directory.Query{Limit: 5, Filter: directory.Filter{NamePrefix: fmt.Sprintf("änne %d", id)}})
		if after := stateOf(t, store); err != nil || len(page.Users) != 1 || after.Epoch != before.Epoch || after.Oldest <= before.Revision {
			t.Errorf("%d users, %v, %+v after %+v", len(page.Users), err, after, before)
		}
	}
	before := stateOf(t, store)
	insert(2)
	stateOf(t, store)
	expect(2, before)
	before = stateOf(t, store)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	insert(3)
	store = openWith(t, path, History{})
	stateOf(t, store)
	expect(3, before)
}

// A write of this process between the change and the next look hides nothing.
func TestAnotherProgramChangesTheFileBeforeAWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	store := filled(t, path, "Ann")
	before := revision(t, store)
	shell(t, path, "DELETE FROM users WHERE id = 1")
	after, err := writeAll(t, store, []directory.User{{ID: 2, Name: "Ben"}})
	if err != nil || after != before+2 {
		t.Fatalf("revision %d after %d, %v: want two changes, so that a cache drops everything", after, before, err)
	}
	after, err = writeAll(t, store, []directory.User{{ID: 2, Name: "Ben"}})
	if err != nil || after != before+3 {
		t.Fatalf("revision %d, %v, want %d", after, err, before+3)
	}

	// Nor does one that is rolled back.
	shell(t, path, "DELETE FROM users WHERE id = 2")
	change, err := store.Import(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := change.Rollback(); err != nil {
		t.Fatal(err)
	}
	if now := revision(t, store); now != after+1 {
		t.Errorf("revision %d after %d", now, after)
	}
}

// A look never waits for an import, its own or that of another process, nor for a lock of another
// program.
func TestLookingForChangesDoesNotWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	store, second := filled(t, path, "Ann"), filled(t, path, "Ann")
	change, err := second.Import(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer change.Rollback()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	for _, s := range []*Store{store, second} {
		if _, err := s.State(ctx); err != nil {
			t.Error(err)
		}
	}
	if err := change.Rollback(); err != nil {
		t.Fatal(err)
	}
	before, err := store.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	other := execute(t, path, "DELETE FROM users WHERE id = 1")
	if err := other.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	// As long as it cannot be recorded, this process has another epoch.
	for range 2 {
		if after, err := store.State(ctx); err != nil || after.Epoch != before.Epoch+".1" {
			t.Errorf("%+v after %+v beside a lock, %v", after, before, err)
		}
	}
	if err := other.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		want := directory.State{Epoch: before.Epoch, Revision: before.Revision + 1, Oldest: before.Revision + 1}
		if after, err := store.State(ctx); err != nil || after != want {
			t.Errorf("%+v, %v, want %+v", after, err, want)
		}
	}
}

// A store that can only be read notices it, too.
func TestAnotherProgramChangesAReadOnlyStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	store := filled(t, path, "Ann")
	db, err := openDatabase(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.close()
	db.readOnly, db.edits = true, edits{}
	if err := db.beginToLook(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := &Store{path: path, db: db}
	before, _ := s.State(t.Context())
	for n := 1; n < 3; n++ {
		shell(t, path, fmt.Sprintf("INSERT INTO users (id, name, age, email, revision, created, updated) VALUES (%d, 'Zoe', 1, '', 0, 0, 0)", n+10))
		after, err := s.State(t.Context())
		if want := fmt.Sprint(before.Epoch, ".", n); err != nil || after.Epoch != want {
			t.Errorf("%+v, %v, want epoch %s", after, err, want)
		}
	}
	store.Close()
}

// A log that begins anew looks to SQLite as if something had been committed. No process takes it for a change
// of another program: not when another process empties the log after an import that it drops, nor when one
// was killed after it had written to a new log.
func TestALogThatBeginsAnewIsNoChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	store, second := filled(t, path, "Ann"), filled(t, path, "Ann")
	before := state(t, store)
	change, err := second.Import(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := change.Rollback(); err != nil {
		t.Fatal(err)
	}
	if after := state(t, store); after != before {
		t.Errorf("%+v after an import that was dropped, want %+v", after, before)
	}
	// A transaction that does not fit into the cache begins the log anew before it commits.
	shell(t, path, "PRAGMA wal_checkpoint(FULL)")
	other := execute(t, path, "PRAGMA cache_size = 10")
	if err := other.Exec("BEGIN IMMEDIATE; CREATE TABLE more (t TEXT); INSERT INTO more WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 500) SELECT hex(randomblob(1000)) FROM n"); err != nil {
		t.Fatal(err)
	}
	if after := state(t, store); after != before {
		t.Errorf("%+v beside a transaction that writes to a new log, want %+v", after, before)
	}
	if err := other.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if after := state(t, store); after != before {
		t.Errorf("%+v after a transaction that was rolled back, want %+v", after, before)
	}
	// A change of another program in the new log still is one.
	shell(t, path, "DELETE FROM users WHERE id = 1")
	if after := state(t, store); after.Revision != before.Revision+1 || after.Oldest != after.Revision {
		t.Errorf("%+v after a change of another program, and %+v before", after, before)
	}
}

// A process that is opened after another program has changed the file, and empties the log, does not hide the
// change from the others.
func TestAProcessThatEmptiesTheLogHidesNoChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	store := filled(t, path, "Ann")
	before := state(t, store)
	shell(t, path, "DELETE FROM users WHERE id = 1")
	second, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	change, err := second.Import(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := change.Rollback(); err != nil {
		t.Fatal(err)
	}
	if after := state(t, store); after.Revision != before.Revision+1 || after.Oldest != after.Revision {
		t.Errorf("%+v after a change of another program, and %+v before", after, before)
	}
}

// Nor does one that empties the log of what was dropped from the history.
func TestEmptyingTheLogHidesNoChange(t *testing.T) {
	store := filled(t, filepath.Join(t.TempDir(), "roster.db"), "Ann")
	before := state(t, store)
	shell(t, store.path, "DELETE FROM users WHERE id = 1")
	if emptied, err := store.db.emptyLog(t.Context()); err != nil || !emptied {
		t.Fatal(emptied, err)
	}
	if after := state(t, store); after.Revision != before.Revision+1 || after.Oldest != after.Revision {
		t.Errorf("%+v after a change of another program, and %+v before", after, before)
	}
}

func state(t *testing.T, s *Store) directory.State {
	t.Helper()
	state, err := s.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}
