package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/roster/directory"
)

// filled makes a store at path in which user 1 has this name, and returns it open, with its changes
// still in the log.
func filled(t *testing.T, path, name string) *Store {
	t.Helper()
	store, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if _, err := writeAll(t, store, []directory.User{{ID: 1, Name: name}}); err != nil {
		t.Fatal(err)
	}
	return store
}

// backup makes a store at path and closes it.
func backup(t *testing.T, path, name string) {
	t.Helper()
	if err := filled(t, path, name).Close(); err != nil {
		t.Fatal(err)
	}
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// revision reads the revision, which also makes the store notice that the file was replaced.
func revision(t *testing.T, store *Store) int64 {
	t.Helper()
	revision, err := revisionOf(t, store)
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

// wantName fails unless user 1 has this name.
func wantName(t *testing.T, store *Store, name string) {
	t.Helper()
	users, _, err := store.Get(t.Context(), []int32{1})
	if err != nil || len(users) != 1 || users[0].Name != name {
		t.Fatalf("got %v, %v, want %s", users, err, name)
	}
}

// wantUnavailable fails unless every method fails with this text.
func wantUnavailable(t *testing.T, store *Store, words string) {
	t.Helper()
	calls := map[string]func() error{
		"Revision": func() error { _, err := revisionOf(t, store); return err },
		"Get":      func() error { _, _, err := store.Get(t.Context(), []int32{1}); return err },
		"Count":    func() error { _, err := store.Count(t.Context()); return err },
		"Put": func() error {
			_, err := writeAll(t, store, []directory.User{{ID: 9, Name: "Lost"}})
			return err
		},
		"Delete": func() error {
			_, err := store.Write(t.Context(), directory.Write{Deletes: []directory.Delete{{ID: 1}}})
			return err
		},
		"Import": func() error { _, err := store.Import(t.Context(), ""); return err },
	}
	if err := calls["Revision"](); err == nil {
		t.Fatal("it was not noticed")
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, directory.ErrUnavailable) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: got %v, want ErrUnavailable, %q", name, err, words)
		}
	}
}

func TestAFileThatIsMovedAwayAndBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "roster.db")
	store := filled(t, path, "Ann")
	before := revision(t, store)

	move(t, path, path+".away")
	wantUnavailable(t, store, "roster.db is gone: put it back")
	if _, err := os.Stat(path); err == nil {
		t.Fatal("a new file was made in its place")
	}
	move(t, path+".away", path)
	if after := revision(t, store); after != before {
		t.Errorf("the revision of the same file went from %d to %d", before, after)
	}
	wantName(t, store, "Ann")

	// The whole directory, as when a disk is unmounted.
	move(t, dir, dir+".away")
	wantUnavailable(t, store, "is gone")
	move(t, dir+".away", dir)
	revision(t, store)
	wantName(t, store, "Ann")
	if _, err := writeAll(t, store, []directory.User{{ID: 1, Name: "Ben"}}); err != nil {
		t.Fatal(err)
	}
	wantName(t, store, "Ben")
}

func TestAnotherFileInItsPlace(t *testing.T) {
	for _, how := range []string{"at once", "after it was gone", "after it was deleted"} {
		t.Run(how, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "roster.db")
			other := path + ".backup"
			backup(t, other, "Zoe")
			store := filled(t, path, "Ann")
			before, _ := store.State(t.Context())
			if how == "after it was gone" {
				move(t, path, path+".old")
				wantUnavailable(t, store, "is gone")
			}
			if how == "after it was deleted" {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				wantUnavailable(t, store, "is gone")
			}
			if how == "at once" {
				// The previous file is kept under another name, to be checked later.
				if err := os.Link(path, path+".old"); err != nil {
					t.Fatal(err)
				}
			}
			move(t, other, path)
			state, err := store.State(t.Context())
			after := state.Revision
			if err != nil || state.Epoch == before.Epoch {
				t.Errorf("%+v after %+v, %v: a cache would not be dropped", state, before, err)
			}
			wantName(t, store, "Zoe")
			next, err := writeAll(t, store, []directory.User{{ID: 1, Name: "Zora"}})
			if err != nil || next != after+1 {
				t.Fatalf("revision %d after %d, %v", next, after, err)
			}
			wantName(t, store, "Zora")

			// No page of the previous file got into the new one, and none of the new one into the
			// previous.
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			wantSound(t, path, "Zora")
			if how != "after it was deleted" {
				wantSound(t, path+".old", "Ann")
			}
		})
	}
}

// wantSound opens the store at path again and fails unless user 1 has this name.
func wantSound(t *testing.T, path, name string) {
	t.Helper()
	store, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	wantName(t, store, name)
	var found string
	if err := store.db.reader.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&found); err != nil || found != "ok" {
		t.Errorf("%s: %s, %v", path, found, err)
	}
}

func TestWhatCannotBeServedInItsPlace(t *testing.T) {
	tests := []struct {
		name string
		put  func(t *testing.T, path string)
		want string
	}{
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}, "is a directory"},
		{"an empty file", func(t *testing.T, path string) { write(t, path, "") }, "this is an empty file"},
		{"text", func(t *testing.T, path string) { write(t, path, strings.Repeat("Remember the milk.\n", 100)) }, "is not a SQLite database"},
		{"another program's database", func(t *testing.T, path string) {
			other := path + ".other"
			p := execute(t, other, "CREATE TABLE orders (id INTEGER)")
			if err := p.db.Close(); err != nil {
				t.Fatal(err)
			}
			move(t, other, path)
		}, "another program's database"},
		{"half a copy", func(t *testing.T, path string) {
			whole := path + ".whole"
			store := filled(t, whole, "Zoe")
			var users []directory.User
			for id := range int32(2000) {
				users = append(users, directory.User{ID: id + 10, Name: fmt.Sprint("User ", id)})
			}
			if _, err := writeAll(t, store, users); err != nil {
				t.Fatal(err)
			}
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(whole)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, string(data[:len(data)/2]))
		}, "is damaged"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "roster.db")
			store := filled(t, path, "Ann")
			move(t, path, path+".old")
			test.put(t, path)
			wantUnavailable(t, store, test.want)
			wantUnavailable(t, store, test.want) // also at the next check

			// The old file is back. Its log was written into it.
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			move(t, path+".old", path)
			revision(t, store)
			wantName(t, store, "Ann")
			if _, err := writeAll(t, store, []directory.User{{ID: 1, Name: "Ben"}}); err != nil {
				t.Fatal(err)
			}
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			wantSound(t, path, "Ben")
		})
	}
}

// A write that did not reach the file at the path fails.
func TestAnImportIntoAFileThatIsMovedAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	store := filled(t, path, "Ann")
	change, err := store.Import(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := change.Add(t.Context(), []directory.User{{ID: 1, Name: "Ben"}}); err != nil {
		t.Fatal(err)
	}
	move(t, path, path+".away")
	if _, err := change.Commit(t.Context()); !errors.Is(err, directory.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	move(t, path+".away", path)
	revision(t, store)
	wantName(t, store, "Ann")
	if _, err := writeAll(t, store, []directory.User{{ID: 1, Name: "Cat"}}); err != nil {
		t.Fatalf("the write lock was not let go: %v", err)
	}
}

// A call that runs while the file is replaced finishes on the previous file.
func TestACallUnderWayWhileTheFileIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	backup(t, path+".backup", "Zoe")
	store := filled(t, path, "Ann")
	before, err := store.use()
	if err != nil {
		t.Fatal(err)
	}
	move(t, path+".backup", path)
	revision(t, store)
	users, _, err := before.get(t.Context(), []int32{1})
	if err != nil || len(users) != 1 || users[0].Name != "Ann" {
		t.Errorf("got %v, %v", users, err)
	}
	store.done(before)
	if err := before.reader.PingContext(t.Context()); err == nil {
		t.Error("the file before is still open")
	}
	wantName(t, store, "Zoe")
}

// One damaged page fails the calls that need it, and no others, until the file is mended.
func TestADamagedPage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	store := filled(t, path, "Ann")
	put(t, store, 0, 16_000, "Somebody")
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte(nil), whole...)
	for i := range 4096 {
		damaged[len(damaged)/4096*2/3*4096+i] = 0xa5
	}
	write(t, path, string(damaged))
	if store, err = Open(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	before := revision(t, store)
	epoch, _ := epochOf(t, store)

	var lost []int32
	for id := int32(0); id < 16_000; id += 50 {
		users, _, err := store.Get(t.Context(), []int32{id})
		switch {
		case err == nil && len(users) == 1:
		case errors.Is(err, directory.ErrDamaged) && errors.Is(err, directory.ErrUnavailable) && strings.Contains(err.Error(), "is damaged: restore it from a backup"):
			lost = append(lost, id)
		default:
			t.Fatalf("user %d: %v, %v", id, users, err)
		}
		if id%1000 == 0 { // as the directory asks, four times a second
			if again, err := revisionOf(t, store); err != nil || again != before {
				t.Fatalf("revision %d, %v, want %d", again, err, before)
			}
		}
	}
	if len(lost) == 0 || len(lost) > 10 {
		t.Fatalf("of every fiftieth user these cannot be read: %v", lost)
	}
	if next, err := writeAll(t, store, []directory.User{{ID: lost[0] - 1000, Name: "Ben"}}); err != nil || next != before+1 {
		t.Errorf("a change of another page: revision %d, %v", next, err)
	}

	// Somebody mends the file.
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := len(whole) / 4096 * 2 / 3 * 4096
	if _, err := file.WriteAt(whole[at:at+4096], int64(at)); err != nil {
		t.Fatal(err)
	}
	// The file is not closed before the end: that would release the locks of the store.
	t.Cleanup(func() { file.Close() })
	if after, err := epochOf(t, store); err != nil || after == epoch {
		t.Errorf("epoch %s, %v: a cache would not be dropped", after, err)
	}
	if users, _, err := store.Get(t.Context(), lost); err != nil || len(users) != len(lost) {
		t.Errorf("%d of %d users, %v", len(users), len(lost), err)
	}
}

// A file whose first pages are damaged answers nothing, until it is restored.
func TestADamagedFileThatIsMended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	store := filled(t, path, "Ann")
	put(t, store, 0, 16_000, "Somebody")
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if store, err = Open(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	damaged := append([]byte(nil), whole...)
	for i := 4096; i < len(damaged); i++ {
		damaged[i] = 0xa5
	}
	write(t, path, string(damaged))
	_, _, err = store.Get(t.Context(), []int32{15_000})
	if !errors.Is(err, directory.ErrDamaged) || !strings.Contains(err.Error(), "is damaged: restore it from a backup") {
		t.Fatalf("got %v", err)
	}
	write(t, path, string(whole))
	revision(t, store)
	if users, _, err := store.Get(t.Context(), []int32{15_000}); err != nil || len(users) != 1 {
		t.Fatalf("got %v, %v", users, err)
	}
}
