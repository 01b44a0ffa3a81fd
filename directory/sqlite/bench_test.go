package sqlite

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"example.com/roster/directory"
)

// rows is how many users the measurements below have: few, unless ROSTER_STORE_ROWS says how many:
//
//	ROSTER_STORE_ROWS=1000000 go test ./directory/sqlite -run 'Measure' -v
func rows(t *testing.T) int {
	t.Helper()
	given := os.Getenv("ROSTER_STORE_ROWS")
	if given == "" {
		return 2000 // so that they still work
	}
	n, err := strconv.Atoi(given)
	if err != nil {
		t.Fatal("ROSTER_STORE_ROWS: ", err)
	}
	return n
}

var families = []string{"Müller", "Smith", "García", "Nguyễn", "Okafor", "Ivanova", "Sørensen", "Brown", "Rossi", "Kowalska"}

// person is a user as people are: names and emails come in no order.
func person(id int) directory.User {
	h := uint32(id) * 2654435761
	return directory.User{ID: int32(id), Name: fmt.Sprintf("%c%x %s", 'A'+h%26, h>>12, families[h/26%10]), Age: int32(id % 100),
		Email: fmt.Sprintf("%x.%d@example.com", h>>8, id)}
}

func importAll(t *testing.T, store *Store, n int, change func(*directory.User)) (time.Duration, directory.ImportDone) {
	t.Helper()
	began := time.Now()
	importing, err := store.Import(t.Context(), "measure")
	if err != nil {
		t.Fatal(err)
	}
	defer importing.Rollback()
	batch := make([]directory.User, 0, 1000)
	for id := 1; id <= n; id++ {
		batch = append(batch, person(id))
		change(&batch[len(batch)-1])
		if len(batch) == cap(batch) || id == n {
			if _, err := importing.Add(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	done, err := importing.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return time.Since(began), done
}

// An import against the .import of the sqlite3 program into the same tables, users and changes.
func TestMeasureImport(t *testing.T) {
	n := rows(t)
	dir := t.TempDir()
	path, other := filepath.Join(dir, "roster.db"), filepath.Join(dir, "shell.db")
	store := openWith(t, path, History{Changes: 10_000_000})
	took, _ := importAll(t, store, n, func(*directory.User) {})
	t.Logf("an import of %d users into a new store: %v", n, took)
	again, done := importAll(t, store, n, func(*directory.User) {})
	t.Logf("the same again: %v, %+v", again, done)
	changed, done := importAll(t, store, n, func(u *directory.User) { u.Age++ })
	t.Logf("all of them changed: %v, %+v", changed, done)

	backup(t, other, "Ann")
	users, changes := filepath.Join(dir, "users.csv"), filepath.Join(dir, "changes.csv")
	lines := func(path string, line func(u directory.User) string) {
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		w := bufio.NewWriter(file)
		for id := 1; id <= n; id++ {
			fmt.Fprintln(w, line(person(id)))
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	lines(users, func(u directory.User) string {
		return fmt.Sprintf("%d,%s,%d,%s,2,1700000000000000,1700000000000000,%s,%s", u.ID, u.Name, u.Age, u.Email, directory.FoldKey(u.Name), directory.FoldKey(u.Email))
	})
	lines(changes, func(u directory.User) string {
		return fmt.Sprintf("2,%d,1,%s,%d,%s,1700000000000000,,", u.ID, u.Name, u.Age, u.Email)
	})
	began := time.Now()
	out, err := exec.Command("sqlite3", other, "DELETE FROM users", "PRAGMA synchronous=FULL", "BEGIN", ".import --csv "+users+" users", ".import --csv "+changes+" changes", "COMMIT", "SELECT count(*) FROM changes").CombinedOutput()
	shell := time.Since(began)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("sqlite3 .import: %v, %s; an import takes %.2f times as long", shell, out, took.Seconds()/shell.Seconds())
}

// Pages of 50, filtered and ordered by one field; exports; and reading the history of one large revision.
func TestMeasureReading(t *testing.T) {
	n := rows(t)
	store := openWith(t, filepath.Join(t.TempDir(), "roster.db"), History{Changes: 10_000_000})
	importAll(t, store, n, func(*directory.User) {})
	for name, q := range map[string]directory.Query{
		"by id":                            {},
		"by name":                          {ByName: true},
		"by name, of a prefix":             {ByName: true, Filter: directory.Filter{NamePrefix: "a"}},
		"by name, of a prefix, descending": {ByName: true, Descending: true, Filter: directory.Filter{NamePrefix: "b1"}},
		"by id, of a rare name":            {Filter: directory.Filter{NamePrefix: "a12"}},
		"by id, of a common name":          {Filter: directory.Filter{NamePrefix: "a"}},
		"by name, of a rare email":         {ByName: true, Filter: directory.Filter{EmailPrefix: "ab12"}},
		"by name, of a common email":       {ByName: true, Filter: directory.Filter{EmailPrefix: "ab"}},
	} {
		pages := min(300, n/100)
		var took []time.Duration
		for i := range pages {
			u := person(i*n/pages + 1)
			if q.After = nil; i > 0 {
				key := directory.FoldKey(u.Name)
				if p := q.Filter.NamePrefix; p != "" {
					key = p + key[1:]
				}
				q.After = &directory.PageKey{NameKey: key, ID: u.ID}
			}
			q.Limit = 50
			began := time.Now()
			if _, err := store.List(t.Context(), q); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		t.Logf("a page %s: median %v, p99 %v", name, took[pages/2], took[pages*99/100])
	}
	began := time.Now()
	exported := 0
	if _, err := store.Export(t.Context(), directory.Filter{}, func(_ directory.State, list []directory.Record) error {
		exported += len(list)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("an export of %d users: %v", exported, time.Since(began))
	began = time.Now()
	from, read := directory.Cursor{}, 0
	for {
		changes, _, err := store.Changes(t.Context(), from, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if read += len(changes); len(changes) < 1000 {
			break
		}
		if from.Skip = changes[999].Index + 1; changes[999].Last {
			break
		}
	}
	t.Logf("%d changes of one revision, by 1000: %v", read, time.Since(began))
	began = time.Now()
	if _, err := store.List(t.Context(), directory.Query{Limit: 1, Total: true}); err != nil {
		t.Fatal(err)
	}
	t.Logf("a total: %v", time.Since(began))
}

func TestMeasureMigration(t *testing.T) {
	n := rows(t)
	path := filepath.Join(t.TempDir(), "roster.db")
	version2(t, path, n).db.Close()
	began := time.Now()
	openWith(t, path, History{})
	t.Logf("a store of %d users is brought up to date in %v", n, time.Since(began))
}

// How long a change waits beside a compaction of everything.
func TestMeasureCompaction(t *testing.T) {
	n := rows(t)
	store := openWith(t, filepath.Join(t.TempDir(), "roster.db"), History{Age: time.Second})
	importAll(t, store, n, func(*directory.User) {})
	time.Sleep(time.Second)
	done := make(chan time.Duration, 1)
	go func() {
		began := time.Now()
		if err := store.Compact(t.Context()); err != nil {
			t.Error(err)
		}
		done <- time.Since(began)
	}()
	var took []time.Duration
	for i := 0; ; i++ {
		select {
		case all := <-done:
			slices.Sort(took)
			t.Logf("%d changes dropped in %v; %d writes beside it: median %v, p99 %v, longest %v", n, all, len(took),
				took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
			return
		default:
		}
		began := time.Now()
		put(t, store, -1, 0, fmt.Sprint("Somebody ", i))
		took = append(took, time.Since(began))
	}
}
