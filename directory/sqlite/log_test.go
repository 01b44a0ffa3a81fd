package sqlite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"

	"example.com/roster/directory"
)

// crash copies the files of an open store as they are, which is what a crash of its process leaves.
func crash(t *testing.T, path, to string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to+suffix, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func put(t *testing.T, store *Store, from, to int32, name string) {
	t.Helper()
	var users []directory.User
	for id := from; id < to; id++ {
		users = append(users, directory.User{ID: id, Name: name, Age: 1})
	}
	if _, err := writeAll(t, store, users); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// shell runs the real sqlite3 program.
func shell(t *testing.T, path string, commands ...string) {
	t.Helper()
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("there is no sqlite3")
	}
	if out, err := exec.Command(program, append([]string{path}, commands...)...).CombinedOutput(); err != nil {
		t.Fatalf("sqlite3 %q: %v\n%s", commands, err, out)
	}
}

// A backup is put in the place of a store that crashed, by its name alone: SQLite would mix the log
// into it.
func TestALogThatBelongsToAnotherFile(t *testing.T) {
	for name, copyStore := range map[string]func(t *testing.T, path, to string){
		"VACUUM INTO":              func(t *testing.T, path, to string) { execute(t, path, "VACUUM INTO '"+to+"'") },
		"the shell's .backup":      func(t *testing.T, path, to string) { shell(t, path, ".backup "+to) },
		"another store":            func(t *testing.T, _, to string) { backup(t, to, "Zoe") },
		"a copy of the open file":  nil,
		"a copy from before":       nil,
		"a file that is empty now": func(t *testing.T, _, to string) { write(t, to, "") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, copied, crashed := filepath.Join(dir, "roster.db"), filepath.Join(dir, "copy.db"), filepath.Join(dir, "crashed.db")
			store := filled(t, path, "Ann")
			put(t, store, 10, 600, "Before")
			if name == "a copy from before" {
				if err := store.Close(); err != nil {
					t.Fatal(err)
				}
				copyFile(t, path, copied)
				store = filled(t, path, "Ann")
			}
			put(t, store, 400, 1000, "Between")
			if copyStore != nil {
				copyStore(t, path, copied)
			}
			if name == "a copy of the open file" {
				copyFile(t, path, copied)
				// A checkpoint, after which the log begins again.
				execute(t, path, "PRAGMA wal_checkpoint(TRUNCATE)")
			}
			put(t, store, 800, 1200, "After")
			crash(t, path, crashed)
			log, err := os.ReadFile(crashed + "-wal")
			if err != nil {
				t.Fatal(err)
			}
			move(t, copied, crashed)
			before, _ := os.ReadFile(crashed)

			again, err := Open(t.Context(), crashed)
			if err == nil {
				again.Close()
				t.Fatal("it was opened")
			}
			want := "and would mix its users into it"
			if name == "a file that is empty now" {
				want = "its store " + crashed + " is missing or empty"
			}
			if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), crashed+"-wal") {
				t.Errorf("got %v", err)
			}
			if after, _ := os.ReadFile(crashed + "-wal"); !bytes.Equal(log, after) {
				t.Error("the log was changed")
			}
			if after, _ := os.ReadFile(crashed); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
			if name == "a file that is empty now" || name == "a copy of the open file" {
				return
			}
			// The remedy that the error names.
			move(t, crashed+"-wal", crashed+"-wal.old")
			again, err = Open(t.Context(), crashed)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			var found string
			if err := again.db.reader.QueryRow("PRAGMA integrity_check").Scan(&found); err != nil || found != "ok" {
				t.Errorf("%s, %v", found, err)
			}
		})
	}
}

// A log without its store is not deleted, as SQLite would.
func TestALogWithoutItsStore(t *testing.T) {
	dir := t.TempDir()
	path, crashed := filepath.Join(dir, "roster.db"), filepath.Join(dir, "crashed.db")
	filled(t, path, "Ann")
	crash(t, path, crashed)
	move(t, crashed, crashed+".away")
	if _, err := Open(t.Context(), crashed); err == nil || !strings.Contains(err.Error(), "is missing or empty: put that file back") {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(crashed); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file was made")
	}
	move(t, crashed+".away", crashed)
	wantSound(t, crashed, "Ann")
}

// Whatever a crash leaves is opened again, with everything that was written.
func TestWhatACrashLeaves(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			path := filepath.Join(t.TempDir(), "roster.db")
			store, err := Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if store != nil {
					store.Close()
				}
			})
			want := make(map[int32]string)
			for step := range 12 {
				switch random.IntN(8) {
				case 0, 1, 2:
					from, name := random.Int32N(500), fmt.Sprint("Step ", step)
					put(t, store, from, from+100, name)
					for id := from; id < from+100; id++ {
						want[id] = name
					}
				case 3:
					execute(t, path, []string{"PRAGMA wal_checkpoint(PASSIVE)", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA wal_checkpoint(RESTART)"}[random.IntN(3)])
				case 4:
					if err := store.Close(); err != nil {
						t.Fatal(err)
					}
					if store, err = Open(t.Context(), path); err != nil {
						t.Fatal(err)
					}
				case 5: // another program
					from := random.Int32N(500)
					execute(t, path, fmt.Sprintf("UPDATE users SET name = 'Edited' WHERE id BETWEEN %d AND %d", from, from+5))
					for id := from; id <= from+5; id++ {
						if _, ok := want[id]; ok {
							want[id] = "Edited"
						}
					}
					revision(t, store)
				case 6:
					execute(t, path, []string{"VACUUM", "CREATE INDEX IF NOT EXISTS names ON users (name)", "DROP INDEX IF EXISTS names"}[random.IntN(3)])
					put(t, store, 900, 901, "After a schema change")
					want[900] = "After a schema change"
				case 7: // in the middle of a checkpoint, and opened again
					crashed := filepath.Join(t.TempDir(), "crashed.db")
					crash(t, path, crashed)
					partlyCheckpoint(t, crashed, random)
					again, err := Open(t.Context(), crashed)
					if err != nil {
						t.Fatalf("step %d: %v", step, err)
					}
					wantUsers(t, again, want)
					if err := store.Close(); err != nil {
						t.Fatal(err)
					}
					store, path = again, crashed
				}
			}
			crashed := filepath.Join(t.TempDir(), "crashed.db")
			crash(t, path, crashed)
			again, err := Open(t.Context(), crashed)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			wantUsers(t, again, want)
		})
	}
}

func wantUsers(t *testing.T, store *Store, want map[int32]string) {
	t.Helper()
	ids := make([]int32, 0, len(want))
	for id := range want {
		ids = append(ids, id)
	}
	users, _, err := store.Get(t.Context(), ids)
	if err != nil || len(users) != len(want) {
		t.Fatalf("%d users of %d, %v", len(users), len(want), err)
	}
	for _, user := range users {
		if want[user.ID] != user.Name {
			t.Fatalf("user %d is %s, want %s", user.ID, user.Name, want[user.ID])
		}
	}
	var found string
	if err := store.db.reader.QueryRow("PRAGMA integrity_check").Scan(&found); err != nil || found != "ok" {
		t.Fatalf("%s, %v", found, err)
	}
}

// partlyCheckpoint copies some pages of the log into the file, as a checkpoint does: in the order of
// their numbers, and the newest of each.
func partlyCheckpoint(t *testing.T, path string, random *rand.Rand) {
	t.Helper()
	log, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if len(log) == 0 {
		return
	}
	newest := make(map[uint32][]byte)
	pending := make(map[uint32][]byte)
	for at := logHeaderSize; at+frameHeaderSize+4096 <= len(log) && bytes.Equal(log[at+8:at+16], log[16:24]); at += frameHeaderSize + 4096 {
		pending[binary.BigEndian.Uint32(log[at:])] = log[at+frameHeaderSize:][:4096]
		if binary.BigEndian.Uint32(log[at+4:]) > 0 {
			for number, page := range pending {
				newest[number] = page
			}
			clear(pending)
		}
	}
	numbers := make([]uint32, 0, len(newest))
	for number := range newest {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, number := range numbers[:random.IntN(len(numbers)+1)] {
		if _, err := file.WriteAt(newest[number], int64(number-1)*4096); err != nil {
			t.Fatal(err)
		}
	}
}

// oldStore makes a store as versions before the epoch made it, with user 1, and leaves it open.
func oldStore(t *testing.T, path string) program {
	t.Helper()
	p := execute(t, path, fmt.Sprintf("PRAGMA application_id = %d", applicationID))
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, p.db, files)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Exec("PRAGMA journal_mode = WAL"); err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	p.put(t, 1, "Old")
	return p
}

// put writes a user as an old version did.
func (p program) put(t *testing.T, id int, name string) {
	t.Helper()
	err := p.Exec(fmt.Sprintf(`BEGIN; UPDATE directory SET revision = revision + 1;
		INSERT OR REPLACE INTO users VALUES (%d, '%s', 1, '', (SELECT revision FROM directory)); COMMIT`, id, name))
	if err != nil {
		t.Fatal(err)
	}
}

// A store of an old version is opened after a crash, and its log is compared, too.
func TestWhatACrashOfAnOldVersionLeaves(t *testing.T) {
	dir := t.TempDir()
	path, crashed, copied := filepath.Join(dir, "roster.db"), filepath.Join(dir, "crashed.db"), filepath.Join(dir, "copy.db")
	p := oldStore(t, path)
	crash(t, path, crashed) // everything is in the log
	store, err := Open(t.Context(), crashed)
	if err != nil {
		t.Fatal(err)
	}
	wantUsers(t, store, map[int32]string{1: "Old"})
	if epoch, err := epochOf(t, store); len(epoch) != 32 || err != nil {
		t.Errorf("epoch %q, %v", epoch, err)
	}
	store.Close()

	if err := p.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	copyFile(t, path, copied)
	p.put(t, 2, "Older")
	crash(t, path, crashed)
	if store, err = Open(t.Context(), crashed); err != nil {
		t.Fatal(err)
	}
	wantUsers(t, store, map[int32]string{1: "Old", 2: "Older"})
	store.Close()

	if err := p.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	p.put(t, 3, "Oldest")
	crash(t, path, crashed)
	move(t, copied, crashed)
	if _, err := Open(t.Context(), crashed); !errors.As(err, new(*ForeignLogError)) {
		t.Fatalf("got %v", err)
	}
}

// The row of a page is read as SQLite wrote it.
func FuzzOnlyRow(f *testing.F) {
	f.Add([]byte{0x0d, 0, 0, 0, 1, 0, 10, 0, 0, 10, 4, 1, 2, 1, 7})
	f.Fuzz(func(_ *testing.T, page []byte) { onlyRow(page) })
}
