package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/roster/directory"
)

// A backup made beside a writer is one state: each change is in it or not.
func TestABackupBesideAWriter(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "roster.db")
	store := filled(t, path, "Ann")
	var stop atomic.Bool
	done := make(chan error, 1)
	go func() {
		var err error
		for n := int32(0); !stop.Load() && err == nil; n++ {
			var users []directory.User
			for id := range int32(200) { // all of one number
				users = append(users, directory.User{ID: 1000 + id, Name: fmt.Sprint("Number ", n)})
			}
			_, err = writeAll(t, store, users)
		}
		done <- err
	}()
	for n := range 3 {
		to := filepath.Join(dir, fmt.Sprint("backup", n, ".db"))
		made, err := Backup(t.Context(), path, to, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, suffix := range []string{"-wal", "-shm", lockSuffix} {
			if _, err := os.Stat(to + suffix); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("there is a %s: %v", to+suffix, err)
			}
		}
		if info, err := os.Stat(to); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		copied, err := Open(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		var names int
		if err := copied.db.reader.QueryRow("SELECT count(DISTINCT name) FROM users WHERE id >= 1000").Scan(&names); err != nil || names > 1 {
			t.Errorf("%d changes are mixed, %v", names, err)
		}
		if count, err := copied.Count(t.Context()); err != nil || count != made.Users {
			t.Errorf("%d users, %v, want %d", count, err, made.Users)
		}
		epoch, _ := epochOf(t, copied)
		if mine, err := epochOf(t, store); err != nil || mine == epoch || epoch != made.Epoch {
			t.Errorf("epoch %s of the backup (%s), %s of the store, %v", epoch, made.Epoch, mine, err)
		}
		copied.Close()
	}
	stop.Store(true)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestBackupRefuses(t *testing.T) {
	dir := t.TempDir()
	path, taken := filepath.Join(dir, "roster.db"), filepath.Join(dir, "taken.db")
	filled(t, path, "Ann")
	write(t, taken, "something else")
	text := filepath.Join(dir, "notes.txt")
	write(t, text, strings.Repeat("Remember the milk.\n", 100))
	link := filepath.Join(dir, "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "folder")
	if err := os.Symlink(dir, folder); err != nil {
		t.Fatal(err)
	}
	served := filepath.Join(dir, "served.db")
	filled(t, served, "Ben")
	crashed := filepath.Join(dir, "crashed.db")
	crash(t, served, crashed)
	orphan := filepath.Join(dir, "orphan.db")
	write(t, orphan+"-journal", "the journal of a file that is missing")
	tests := []struct {
		name, store, to string
		overwrite       bool
		want            string
	}{
		{"a file that exists", path, taken, false, "taken.db: file already exists"},
		{"the store itself", path, path, true, "is the store itself"},
		{"the store by a link", path, link, true, "is the store itself"},
		{"its log", path, path + "-wal", true, "is the store itself, or a part of it"},
		{"its lock", path, path + "-lock", true, "is the store itself, or a part of it"},
		{"the name of its journal", path, path + "-journal", false, "a name that the store itself uses"},
		{"such a name in a linked folder", path, filepath.Join(folder, "roster.db-journal"), false, "a name that the store itself uses"},
		{"another store that is open", path, served, true, "served.db is in use"},
		{"another store with its log", path, crashed, true, "would be taken for changes of the backup"},
		{"a name with a journal", path, orphan, false, "would be taken for changes of the backup"},
		{"a directory", path, dir, true, "is a directory"},
		{"no such directory", path, filepath.Join(dir, "no", "b.db"), false, "no such file or directory"},
		{"a device", path, os.DevNull, true, "is not a regular file"},
		{"no store", filepath.Join(dir, "none.db"), filepath.Join(dir, "b.db"), false, "there is no such store"},
		{"text", text, filepath.Join(dir, "b.db"), false, "is not a SQLite database"},
	}
	for _, test := range tests {
		if _, err := Backup(t.Context(), test.store, test.to, test.overwrite); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.name, err, test.want)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Backup(ended, path, filepath.Join(dir, "b.db"), false); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	for _, pattern := range []string{".*.tmp", "none*", "b.db*"} {
		if left, _ := filepath.Glob(filepath.Join(dir, pattern)); len(left) > 0 {
			t.Errorf("it left %v", left)
		}
	}
	if content, _ := os.ReadFile(taken); string(content) != "something else" {
		t.Error("taken.db was changed")
	}
	if _, err := Backup(t.Context(), path, taken, true); err != nil {
		t.Errorf("with overwrite: %v", err)
	}
	wantSound(t, taken, "Ann")
	wantSound(t, crashed, "Ben")
}

// SQLite rolls back whatever file has the name to which a journal belongs. The journal of the store
// that a restore replaces goes with that store.
func TestARestoreOverAJournal(t *testing.T) {
	dir := t.TempDir()
	live, path, saved := filepath.Join(dir, "live.db"), filepath.Join(dir, "roster.db"), filepath.Join(dir, "backup.db")
	restoreOf(t, live, saved).Close()
	// A change that is half done: with so small a cache, the file has a part of it.
	shell(t, live, "PRAGMA journal_mode = DELETE")
	db := open(live, "_pragma=cache_size(1)")
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	for n := range 2000 {
		if _, err := tx.Exec("INSERT INTO users VALUES (?, ?, 1, '', 9, 1, 1, '', '')", 100+n, strings.Repeat("x", 200)); err != nil {
			t.Fatal(err)
		}
	}
	copyFile(t, live, path)
	copyFile(t, live+"-journal", path+"-journal")
	if _, err := Restore(t.Context(), path, filepath.Join(dir, "new.db")); err == nil || !strings.Contains(err.Error(), "is not a finished backup") {
		t.Errorf("a restore of a file with a journal: got %v", err)
	}
	restored, err := Restore(t.Context(), saved, path)
	if err != nil {
		t.Fatal(err)
	}
	wantSound(t, path, "Ann")
	wantSound(t, restored.Kept, "Ben")
}

// restoreOf makes a store with Ann at path, and a backup of it; then Ann is Ben in the store.
func restoreOf(t *testing.T, path, to string) *Store {
	t.Helper()
	store := filled(t, path, "Ann")
	if _, err := Backup(t.Context(), path, to, false); err != nil {
		t.Fatal(err)
	}
	put(t, store, 1, 2, "Ben")
	return store
}

func TestRestore(t *testing.T) {
	for _, how := range []string{"after a stop", "after a crash", "where nothing is", "over a damaged file", "over a log alone"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			live, path, saved := filepath.Join(dir, "live.db"), filepath.Join(dir, "roster.db"), filepath.Join(dir, "backup.db")
			store := restoreOf(t, live, saved)
			before := revision(t, store)
			epoch, err := epochOf(t, store)
			if err != nil {
				t.Fatal(err)
			}
			if how != "after a stop" {
				crash(t, live, path)
			}
			store.Close()
			switch how {
			case "after a stop":
				move(t, live, path)
			case "where nothing is":
				os.Remove(path)
				os.Remove(path + "-wal")
			case "over a log alone":
				os.Remove(path)
			case "over a damaged file":
				write(t, path, strings.Repeat("x", 10_000))
			}
			restored, err := Restore(t.Context(), saved, path)
			if err != nil {
				t.Fatal(err)
			}
			if restored.Users != 1 || restored.Epoch == epoch || (restored.Kept == "") != (how == "where nothing is") {
				t.Errorf("got %+v, epoch before %s", restored, epoch)
			}
			if (how == "after a stop" || how == "after a crash") && restored.Revision <= before-2 {
				t.Errorf("revision %d after %d", restored.Revision, before)
			}
			for _, suffix := range []string{"-wal", "-shm", lockSuffix} {
				if _, err := os.Stat(path + suffix); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("there is a %s: %v", suffix, err)
				}
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			wantSound(t, path, "Ann")
			if again, err := Restore(t.Context(), saved, path); err != nil || again.Epoch == restored.Epoch {
				t.Errorf("a second restore: epoch %s and %s, %v", restored.Epoch, again.Epoch, err)
			}
			wantSound(t, path, "Ann")
			if how == "after a stop" || how == "after a crash" {
				wantSound(t, restored.Kept, "Ben") // with its log
			}
		})
	}
}

func TestRestoreRefuses(t *testing.T) {
	dir := t.TempDir()
	path, saved := filepath.Join(dir, "roster.db"), filepath.Join(dir, "backup.db")
	store := restoreOf(t, path, saved)
	refused := func(name, backup, want string) {
		t.Helper()
		if _, err := Restore(t.Context(), backup, path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
	refused("a store that is open", saved, path+" is in use: another process has it open")
	move(t, path, path+".away")
	refused("a store that is open and moved away", saved, "is in use")
	move(t, path+".away", path)
	live := filepath.Join(dir, "live.db")
	crash(t, path, live)
	copyFile(t, path, filepath.Join(dir, "copied.db")) // without the log
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}

	other := filepath.Join(dir, "other.db")
	p := execute(t, other, "CREATE TABLE orders (id INTEGER)")
	p.db.Close()
	data, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "half.db"), string(data[:len(data)/2]))
	write(t, filepath.Join(dir, "text.db"), strings.Repeat("Remember the milk.\n", 100))
	write(t, filepath.Join(dir, "empty.db"), "")
	copyFile(t, saved, filepath.Join(dir, "future.db"))
	shell(t, filepath.Join(dir, "future.db"), "PRAGMA user_version = 99")
	for name, want := range map[string]string{
		"none.db":   "no such file",
		"":          "is not a regular file",
		"other.db":  "another program's database",
		"half.db":   "is damaged",
		"text.db":   "is not a SQLite database",
		"empty.db":  "this is an empty file",
		"future.db": "its schema is version 99",
		"live.db":   "is not a finished backup: its latest changes are in the log beside it",
		"copied.db": "may be incomplete: it was copied while it was served",
		"roster.db": "is the store itself",
	} {
		refused(name, filepath.Join(dir, name), want)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*before*")); len(left) > 0 {
		t.Errorf("a refused restore moved the store: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*.tmp")); len(left) > 0 {
		t.Errorf("a refused restore left %v", left)
	}
	wantSound(t, path, "Ben")
}

// What a restore that was interrupted leaves is not opened as if it were whole.
func TestARestoreThatWasInterrupted(t *testing.T) {
	dir := t.TempDir()
	live, path, saved := filepath.Join(dir, "live.db"), filepath.Join(dir, "roster.db"), filepath.Join(dir, "backup.db")
	restoreOf(t, live, saved)
	crash(t, live, path)
	kept, err := putAside(path, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	wantSound(t, kept, "Ben")
	crash(t, live, path)
	copied := filepath.Join(dir, "copied")
	copyFile(t, saved, copied)
	if _, err := finishCopy(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	move(t, copied, path)
	if _, err := Open(t.Context(), path); !errors.As(err, new(*ForeignLogError)) {
		t.Errorf("got %v", err)
	}
	if _, err := Restore(t.Context(), saved, path); err != nil {
		t.Fatal(err)
	}
	wantSound(t, path, "Ann")
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "roster.db")
	store := filled(t, path, "Ann")
	check := func() (problems []string) {
		t.Helper()
		s, err := Check(t.Context(), path, func(text string) { problems = append(problems, text) })
		if err != nil {
			t.Fatal(err)
		}
		epoch, err := epochOf(t, store)
		if err != nil || s.Epoch != epoch || s.Revision == 0 {
			t.Errorf("got %+v, epoch %s, %v", s, epoch, err)
		}
		return problems
	}
	if problems := check(); len(problems) > 0 {
		t.Errorf("problems %v", problems)
	}
	shell(t, path, "INSERT INTO users (id, name, age, email, revision, created, updated) VALUES (2, '', 1, '', 0, 1, 1), (3, 'C', 200, '', 0, 1, 1), (4, 'D', 4, 'nobody', 0, 1, 1), (5, 'E', 5, '', 0, 1, 1), (5000000000, 'F', 1, '', 0, 1, 1)")
	problems := strings.Join(check(), "\n")
	if !strings.Contains(problems, "the key of the name or of the email is wrong (a running server mends it): user 3") {
		t.Errorf("got %s", problems)
	}
	for _, want := range []string{"user 2: invalid user: name is empty", "user 3: invalid user: age 200", `user 4: invalid user: email "nobody" has no @`, "user 5000000000: the id is out of range"} {
		if !strings.Contains(problems, want) {
			t.Errorf("got %s\nwant %s", problems, want)
		}
	}
	if strings.Contains(problems, "user 1:") {
		t.Errorf("got %s", problems)
	}
	// They stay served.
	if users, _, err := store.Get(t.Context(), []int32{2, 3, 4}); err != nil || len(users) != 3 {
		t.Errorf("got %v, %v", users, err)
	}

	put(t, store, 10, 3000, "Somebody")
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4096 {
		data[len(data)/4096/2*4096+i] = 0xa5
	}
	write(t, path, string(data))
	var found []string
	if _, err := Check(t.Context(), path, func(text string) { found = append(found, text) }); err != nil || len(found) < 2 || !strings.HasPrefix(found[0], "damaged: ") {
		t.Errorf("got %v, %v", found, err)
	}
	if _, err := Backup(t.Context(), path, filepath.Join(dir, "b.db"), false); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("a backup of it: %v", err)
	}
	if _, err := Check(t.Context(), filepath.Join(dir, "none.db"), nil); err == nil || !strings.Contains(err.Error(), "there is no such store") {
		t.Errorf("got %v", err)
	}
}

// A store of an old version is backed up as it is, so that the old version can go back to it.
func TestABackupOfAnOldVersion(t *testing.T) {
	dir := t.TempDir()
	path, saved := filepath.Join(dir, "roster.db"), filepath.Join(dir, "backup.db")
	oldStore(t, path)
	if s, err := Backup(t.Context(), path, saved, false); err != nil || s.Users != 1 || s.Epoch != "" {
		t.Fatalf("%+v, %v", s, err)
	}
	restored := filepath.Join(dir, "restored.db")
	if _, err := Restore(t.Context(), saved, restored); err != nil {
		t.Fatal(err)
	}
	wantSound(t, restored, "Old")
}

// After a crash, roster backup or roster check may be the first to open the store, and SQLite then takes
// the log up. The store is complete, and has to say so: it can be moved and restored as one file.
func TestAStoreWhoseLogWasTakenUpIsComplete(t *testing.T) {
	for name, read := range map[string]func(t *testing.T, path string) error{
		"backup": func(t *testing.T, path string) error {
			_, err := Backup(t.Context(), path, filepath.Join(t.TempDir(), "backup.db"), false)
			return err
		},
		"check": func(t *testing.T, path string) error {
			_, err := Check(t.Context(), path, func(problem string) { t.Error(problem) })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			live, crashed := filepath.Join(dir, "live.db"), filepath.Join(dir, "crashed.db")
			store, err := Open(t.Context(), live)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			put(t, store, 1, 100, "Ben")
			crash(t, live, crashed)
			if err := read(t, crashed); err != nil {
				t.Fatal(err)
			}
			if left := leftJournal(crashed); left != "" {
				t.Fatalf("%s was left", left)
			}
			if err := checkComplete(t.Context(), crashed, func(warning string) { t.Error(warning) }); err != nil {
				t.Error(err)
			}
			if err := checkBackup(t.Context(), crashed, live); err != nil {
				t.Error(err)
			}
		})
	}
}
