package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/roster/directory"
)

func TestANewStoreIsItsOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	var warnings []string
	created := 0
	config := Config{Created: func() { created++ }, Warn: func(text string) { warnings = append(warnings, text) }}
	store, err := config.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	put(t, store, 1, 2, "Ann")
	for _, suffix := range []string{"", "-wal", "-shm", lockSuffix} {
		if info, err := os.Stat(path + suffix); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", suffix, info, err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if files, _ := filepath.Glob(path + "*"); len(files) != 1 {
		t.Errorf("after closing there are %v, want one file", files)
	}
	// A mode that somebody has given it stays.
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if store, err = config.Open(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, suffix := range []string{"", "-wal", lockSuffix} {
		if info, err := os.Stat(path + suffix); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v, %v, want mode 0640", suffix, info, err)
		}
	}
	if created != 1 || len(warnings) > 0 {
		t.Errorf("it was created %d times, warnings %q", created, warnings)
	}
}

func TestAStoreThatMustExist(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.db")
	write(t, empty, "")
	for _, path := range []string{filepath.Join(dir, "roster.db"), empty} {
		_, err := Config{MustExist: true}.Open(t.Context(), path)
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "there is no such store") {
			t.Errorf("got %v", err)
		}
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 1 {
		t.Errorf("it made %v", files)
	}
	backup(t, filepath.Join(dir, "roster.db"), "Ann")
	store, err := Config{MustExist: true}.Open(t.Context(), filepath.Join(dir, "roster.db"))
	if err != nil {
		t.Fatal(err)
	}
	store.Close()
}

// The main file alone of a store that is open is a valid database without the latest changes.
func TestACopyOfAnOpenFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "roster.db")
	store := filled(t, path, "Ann")
	open := func(name string) (*Store, []string, error) {
		var warnings []string
		store, err := Config{Warn: func(text string) { warnings = append(warnings, text) }}.Open(t.Context(), filepath.Join(dir, name))
		if err == nil {
			t.Cleanup(func() { store.Close() })
		}
		return store, warnings, err
	}
	copyFile(t, path, filepath.Join(dir, "empty.db"))
	if _, _, err := open("empty.db"); err == nil || !strings.Contains(err.Error(), "this is an incomplete copy, which has no users") {
		t.Errorf("a copy without users: %v", err)
	}
	execute(t, path, "PRAGMA wal_checkpoint(TRUNCATE)")
	put(t, store, 5, 9, "Later")
	copyFile(t, path, filepath.Join(dir, "some.db"))
	copied, warnings, err := open("some.db")
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "its log ("+filepath.Join(dir, "some.db")+"-wal) is missing") {
		t.Errorf("a copy with users: %v, %q", err, warnings)
	}
	wantUsers(t, copied, map[int32]string{1: "Ann"})

	// Both together are whole, and so is a file that was closed.
	crash(t, path, filepath.Join(dir, "both.db"))
	if _, warnings, err := open("both.db"); err != nil || len(warnings) > 0 {
		t.Errorf("a copy with its log: %v, %q", err, warnings)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	copyFile(t, path, filepath.Join(dir, "closed.db"))
	if _, warnings, err := open("closed.db"); err != nil || len(warnings) > 0 {
		t.Errorf("a copy of a closed file: %v, %q", err, warnings)
	}

	// An old version left the whole schema in the log.
	old := filepath.Join(dir, "old.db")
	oldStore(t, old)
	copyFile(t, old, filepath.Join(dir, "oldcopy.db"))
	if info, err := os.Stat(filepath.Join(dir, "oldcopy.db")); err != nil || info.Size() != 4096 {
		t.Fatalf("%v, %v", info, err)
	}
	if _, _, err := open("oldcopy.db"); err == nil || !strings.Contains(err.Error(), "this is an incomplete copy") {
		t.Errorf("the copy of an old version: %v", err)
	}
}

// The same in the place of a store that is open.
func TestACopyOfAnOpenFileInTheStoresPlace(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "roster.db"), filepath.Join(dir, "other.db")
	filled(t, other, "Zoe")
	copyFile(t, other, other+".copy")
	store := filled(t, path, "Ann")
	move(t, other+".copy", path)
	wantUnavailable(t, store, "this is an incomplete copy")
}

// Data in the place of others are another history, for every process alike.
func TestTheEpochOfAnotherFileInItsPlace(t *testing.T) {
	dir := t.TempDir()
	path, copied := filepath.Join(dir, "roster.db"), filepath.Join(dir, "copy.db")
	backup(t, path, "Ann")
	copyFile(t, path, copied) // with the same epoch
	stores := []*Store{filled(t, path, "Ben"), filled(t, path, "Ben")}
	epoch, err := epochOf(t, stores[0])
	if err != nil {
		t.Fatal(err)
	}
	move(t, copied, path)
	for _, store := range stores {
		revision(t, store)
		wantName(t, store, "Ann")
	}
	first, err := epochOf(t, stores[0])
	if second, err2 := epochOf(t, stores[1]); err != nil || err2 != nil || first != second || first == epoch {
		t.Errorf("epochs %s, %v and %s, %v; it was %s", first, err, second, err2, epoch)
	}
	if a, b := revision(t, stores[0]), revision(t, stores[1]); a != b {
		t.Errorf("two processes see the revisions %d and %d", a, b)
	}
}

func TestASchemaFromTheFuture(t *testing.T) {
	for name, statement := range map[string]string{
		"user_version":    "PRAGMA user_version = 7",
		"the goose table": "INSERT INTO goose_db_version (version_id, is_applied) VALUES (7, 1)",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "roster.db")
			backup(t, path, "Ann")
			shell(t, path, statement)
			before, _ := os.ReadFile(path)
			_, err := Open(t.Context(), path)
			want := fmt.Sprintf("its schema is version 7, and this version of Roster knows versions up to %d: run the newer version", schemaVersion)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
			if after, _ := os.ReadFile(path); string(before) != string(after) {
				t.Error("the file was changed")
			}
			store := filled(t, path+".other", "Ben")
			move(t, path, path+".other")
			wantUnavailable(t, store, "its schema is version 7")
		})
	}
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil || len(names) != schemaVersion {
		t.Errorf("schemaVersion is %d, and the migrations are %v, %v", schemaVersion, names, err)
	}
}

// An import leaves no long log behind, whether it was taken or not.
func TestTheLogAfterAnImport(t *testing.T) {
	for _, how := range []string{"taken", "refused", "interrupted"} {
		t.Run(how, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "roster.db")
			served := filled(t, path, "Ann") // has the file open, too
			store := filled(t, path, "Ann")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			change, err := store.Import(ctx, "")
			if err != nil {
				t.Fatal(err)
			}
			// With so few pages in memory it writes to the log before its end, as a large one does.
			if _, err := change.(*importing).tx.Exec(setCache(500)); err != nil {
				t.Fatal(err)
			}
			batch := make([]directory.User, 1000)
			for n := range 15 {
				for i := range batch {
					batch[i] = directory.User{ID: int32(n*1000 + i), Name: strings.Repeat("long ", 50) + "name"}
				}
				if _, err := change.Add(t.Context(), batch); err != nil {
					t.Fatal(err)
				}
			}
			switch how {
			case "taken":
				_, err = change.Commit(t.Context())
			case "refused":
				if size(t, path+"-wal") < 1<<20 {
					t.Fatal("the log is not long before the end: this test shows nothing")
				}
				err = change.Rollback()
			case "interrupted":
				cancel()
				if _, err = change.Commit(ctx); errors.Is(err, context.Canceled) {
					err = change.Rollback()
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if n := size(t, path+"-wal"); n > 64<<10 {
				t.Errorf("the log has %d bytes", n)
			}
			count, err := served.Count(t.Context())
			if want := map[bool]int64{true: 15_000, false: 1}[how == "taken"]; err != nil || count != want {
				t.Errorf("%d users, %v, want %d", count, err, want)
			}
		})
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
