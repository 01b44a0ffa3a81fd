package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/roster/directory"
)

// openWith opens a store with a history of its own.
func openWith(t *testing.T, path string, history History) *Store {
	t.Helper()
	store, err := Config{History: history}.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func stateOf(t *testing.T, store *Store) directory.State {
	t.Helper()
	state, err := store.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func compact(t *testing.T, store *Store) directory.State {
	t.Helper()
	if err := store.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	return stateOf(t, store)
}

// count returns what a query of one number returns.
func count(t *testing.T, store *Store, query string) (n int64) {
	t.Helper()
	if err := store.db.reader.QueryRow(query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCompactionByNumber(t *testing.T) {
	store := openWith(t, filepath.Join(t.TempDir(), "roster.db"), History{Changes: 100})
	second, err := Open(t.Context(), store.path) // sees no edit in it
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	for n := range 30 {
		put(t, store, int32(n*10), int32(n*10+10), "Somebody")
	}
	before := stateOf(t, store)
	after := compact(t, store)
	if after.Oldest != before.Revision-10 || after.Revision != before.Revision || after.Epoch != before.Epoch {
		t.Fatalf("%+v after %+v", after, before)
	}
	if changes, revisions := count(t, store, "SELECT count(*) FROM changes"), count(t, store, "SELECT count(*) FROM revisions"); changes != 100 || revisions != 11 {
		t.Errorf("%d changes and %d revisions are kept", changes, revisions)
	}
	if again := stateOf(t, second); again != after {
		t.Errorf("another process sees %+v, want %+v", again, after)
	}
	if _, _, err := store.Changes(t.Context(), directory.Cursor{Revision: after.Oldest - 1}, 5); !errors.Is(err, directory.ErrHistory) ||
		!strings.Contains(err.Error(), "are no longer kept") {
		t.Errorf("got %v", err)
	}
	if changes, _, err := store.Changes(t.Context(), directory.Cursor{Revision: after.Oldest}, 500); err != nil || len(changes) != 100 || changes[0].Revision != after.Oldest+1 {
		t.Errorf("%d changes, %v", len(changes), err)
	}
	// A last revision that is larger than that is kept, alone. It goes in several steps.
	put(t, store, 1000, 3000, "Many")
	if after = compact(t, store); after.Oldest != after.Revision-1 || count(t, store, "SELECT count(*) FROM changes") != 2000 {
		t.Errorf("%+v", after)
	}
	// It stays until there are enough later ones: somebody may still be reading it.
	put(t, store, 1, 100, "Ann")
	if after = compact(t, store); after.Oldest != after.Revision-2 {
		t.Errorf("%+v", after)
	}
	put(t, store, 1, 2, "Ben")
	if after = compact(t, store); after.Oldest != after.Revision-2 || count(t, store, "SELECT count(*) FROM changes") != 100 {
		t.Errorf("%+v", after)
	}
	if again := compact(t, store); again != after {
		t.Errorf("%+v after %+v", again, after)
	}
}

// What is gone from the history is gone from the file and its log.
func TestCompactionByAgeLeavesNoNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	store := openWith(t, path, History{Age: 50 * time.Millisecond})
	put(t, store, 0, 3000, "Remaining")
	var gone directory.Write
	for id := range int32(3000) { // in no order, so that pages are split and joined
		id = id * 7919 % 3000
		put(t, store, 10_000+id, 10_001+id, fmt.Sprintf("Vanishing %d", id*7%3000))
		if id%500 == 0 {
			compact(t, store)
		}
		gone.Deletes = append(gone.Deletes, directory.Delete{ID: 10_000 + id})
	}
	if _, err := store.Write(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if err := store.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(60 * time.Millisecond)
	state := compact(t, store)
	if state.Oldest != state.Revision {
		t.Fatalf("%+v", state)
	}
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Vanishing", "vanishing"} {
			if n := bytes.Count(data, []byte(name)); n > 0 {
				t.Errorf("%s%s has %q %d times", path, suffix, name, n)
			}
		}
	}
	if data, _ := os.ReadFile(path); !bytes.Contains(data, []byte("Remaining")) {
		t.Error("the file does not show names: this test shows nothing")
	}
}

// A user that the sqlite3 program has written is found by its new name and email, once Compact has run.
func TestKeysOfWhatAnotherProgramWrote(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	store := openWith(t, path, History{})
	put(t, store, 1, 10_000, "Somebody")
	state := stateOf(t, store)
	shell(t, path, "UPDATE users SET name = 'ÄNNE', email = 'Ä@example.com' WHERE id = 9000",
		"INSERT INTO users (id, name, age, email, revision, created, updated) VALUES (20000, 'ÄNNE', 1, '', 0, 1, 1)")
	edited := stateOf(t, store)
	if edited.Oldest != edited.Revision || edited.Revision <= state.Revision {
		t.Errorf("%+v after %+v", edited, state)
	}
	if _, _, err := store.Changes(t.Context(), directory.Cursor{Epoch: state.Epoch, Revision: state.Revision}, 5); !errors.Is(err, directory.ErrHistory) {
		t.Errorf("changes since before the edit: %v", err)
	}
	users, _, err := store.Get(t.Context(), []int32{9000})
	if err != nil || users[0].Revision <= state.Revision || users[0].Revision > edited.Revision {
		t.Errorf("the edited user has %+v, %v: its revision must be another one", users, err)
	}
	if after := compact(t, store); after != edited {
		t.Errorf("%+v after %+v", after, edited)
	}
	page, err := store.List(t.Context(), directory.Query{Limit: 5, Filter: directory.Filter{NamePrefix: directory.FoldKey("ännE")}})
	if err != nil || len(page.Users) != 2 {
		t.Errorf("%+v, %v", page, err)
	}
	if n := count(t, store, "SELECT unkeyed IS NULL FROM directory"); n != 1 {
		t.Error("keys are still to be mended")
	}
	// A new id is above that of the other program.
	written, err := store.Write(t.Context(), directory.Write{Creates: []directory.Create{{User: directory.User{Name: "New"}, NewID: true}}})
	if err != nil || written.Created[0].ID != 20_001 {
		t.Errorf("%+v, %v", written, err)
	}
}

func TestAnExportThatTakesTooLong(t *testing.T) {
	store := openWith(t, filepath.Join(t.TempDir(), "roster.db"), History{})
	put(t, store, 0, 2000, "Somebody")
	store.exportTime = 200 * time.Millisecond
	began := time.Now()
	_, err := store.Export(t.Context(), directory.Filter{}, func(directory.State, []directory.Record) error {
		time.Sleep(time.Second)
		return nil
	})
	if !errors.Is(err, directory.ErrOverdue) || time.Since(began) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	// A reader that has gone, and one that ends by itself.
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := store.Export(ctx, directory.Filter{}, func(directory.State, []directory.Record) error { cancel(); return ctx.Err() }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if busy := store.db.exports.Stats().InUse; busy != 0 {
		t.Errorf("%d connections are in use", busy)
	}
}

// Times and revisions go on where they were when the clock goes back.
func TestAClockThatJumps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	store := openWith(t, path, History{})
	put(t, store, 1, 2, "Ann")
	future := time.Now().Add(24 * time.Hour).UnixMicro()
	if _, err := store.db.writer.Exec("UPDATE revisions SET time = ?", future); err != nil {
		t.Fatal(err)
	}
	put(t, store, 1, 2, "Ben")
	change, err := store.Import(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := change.Add(t.Context(), []directory.User{{ID: 2, Name: "Cat"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := change.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	users, _, err := store.Get(t.Context(), []int32{1, 2})
	if err != nil || len(users) != 2 || users[0].Updated.UnixMicro() < future || users[1].Updated.UnixMicro() < future {
		t.Errorf("%+v, %v", users, err)
	}
}

// Check finds a history that does not fit the users, whatever is wrong with it.
func TestCheckOfTheHistory(t *testing.T) {
	for statement, want := range map[string]string{
		"DELETE FROM revisions WHERE revision = 2":                 "revisions are missing: of those from the oldest to the last one there are 3, not 4",
		"DELETE FROM changes WHERE revision = 2 AND id = 11":       "numbers of changes are wrong, at revision 2",
		"UPDATE revisions SET time = time - 1e12 WHERE revision=3": "times fall",
		"DELETE FROM users WHERE id = 12":                          "the last change does not fit the user: 12",
		"UPDATE users SET revision = 1 WHERE id = 12":              "the last change does not fit the user: 12",
		"UPDATE users SET revision = 3 WHERE id = 12":              "a change is missing: the revision is newer than the last change, of user 12",
		"UPDATE directory SET recorded = 1":                        "the last revision and the one that was recorded: 3, 1",
		"UPDATE users SET email_key = 'x' WHERE id = 12":           "the key of the name or of the email is wrong (a running server mends it): user 12",
	} {
		path := filepath.Join(t.TempDir(), "roster.db")
		store := openWith(t, path, History{})
		put(t, store, 1, 2, "Ann")
		put(t, store, 10, 15, "Ben")
		put(t, store, 13, 14, "Cat")
		wantCheck(t, path)
		execute(t, path, strings.ReplaceAll(statement, "1e12", "1000000000000"))
		var problems []string
		if _, err := Check(t.Context(), path, func(problem string) { problems = append(problems, problem) }); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
		if all := strings.Join(problems, "\n"); !strings.Contains(all, want) {
			t.Errorf("%s: got %q, want %s", statement, all, want)
		}
	}
}
