// Package storetest proves that a directory.Store keeps its contract. A
// store's own tests hand it a way to open the same data twice, as two
// processes would:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Opener {
//			path := filepath.Join(t.TempDir(), "roster.db")
//			return func() (directory.Store, error) { return sqlite.Open(t.Context(), path) }
//		})
//	}
package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/roster/directory"
)

// An Opener opens one more Store on the same data.
type Opener func() (directory.Store, error)

// Run runs the suite; fresh gives each test data of its own, empty at first.
func Run(t *testing.T, fresh func(*testing.T) Opener) {
	tests := slices.Concat(coreTests, writeTests, listTests, historyTests, importTests)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.test(t, fixture{t, fresh(t), fresh})
		})
	}
}

// A test is one promise of a Store.
type test struct {
	name string
	test func(*testing.T, fixture)
}

var coreTests = []test{
	{"a new store is empty", testEmpty},
	{"get leaves unknown ids out and answers each id once", testGet},
	{"get answers ten thousand ids in one call", testGetMany},
	{"users and state of a get are of one moment", testGetState},
	{"every int32 is an id", testExtremeIDs},
	{"a write replaces a user", testPutReplaces},
	{"one invalid user refuses the whole write", testPutInvalid},
	{"delete removes and ignores unknown ids", testDelete},
	{"each change raises the revision by one", testRevision},
	{"all changes and all processes are in one epoch", testEpoch},
	{"an import is seen all at once or not at all", testImportAtomic},
	{"an import reports duplicates and keeps the first", testImportDuplicates},
	{"an import full of duplicates takes no longer for it", testImportManyDuplicates},
	{"an import replaces what was there", testImportReplaces},
	{"an invalid user ends an import", testImportInvalid},
	{"an import removes the users that it has not added", testImportRemoves},
	{"a rollback leaves no trace", testRollback},
	{"a reader goes on while a writer holds the lock", testReaderNotBlocked},
	{"writes of many goroutines all arrive", testConcurrentWrites},
	{"what one process commits the other reads", testTwoProcesses},
	{"two processes may open new data at once", testOpenTogether},
	{"a context that ended is the error", testContext},
	{"data is there after closing", testDurable},
}

type fixture struct {
	*testing.T
	opener Opener
	fresh  func(*testing.T) Opener
}

func (f fixture) open() directory.Store {
	f.Helper()
	store, err := f.opener()
	if err != nil {
		f.Fatalf("open: %v", err)
	}
	f.Cleanup(func() { store.Close() })
	return store
}

func (f fixture) put(store directory.Store, users ...directory.User) int64 {
	f.Helper()
	return f.write(store, putting(users...)).State.Revision
}

// putting is the change that creates or replaces these users.
func putting(users ...directory.User) directory.Write {
	change := directory.Write{Actor: "storetest"}
	for _, u := range users {
		change.Updates = append(change.Updates, directory.Update{User: u, Fields: directory.AllFields, Replace: true})
	}
	return change
}

func (f fixture) write(store directory.Store, change directory.Write) directory.Written {
	f.Helper()
	written, err := store.Write(f.Context(), change)
	if err != nil {
		f.Fatalf("write: %v", err)
	}
	return written
}

// plain returns users without their times and revisions.
func plain(records []directory.Record) []directory.User {
	users := make([]directory.User, len(records))
	for i := range records {
		users[i] = records[i].User
	}
	return users
}

// want compares what store has under ids, in the order of their ids.
func (f fixture) want(store directory.Store, ids []int32, want ...directory.User) {
	f.Helper()
	records, _, err := store.Get(f.Context(), ids)
	if err != nil {
		f.Fatalf("get %v: %v", ids, err)
	}
	got := plain(records)
	slices.SortFunc(got, func(a, b directory.User) int { return cmp.Compare(a.ID, b.ID) })
	if !slices.Equal(got, want) {
		f.Fatalf("get %v:\n got %v\nwant %v", ids, got, want)
	}
}

func (f fixture) state(store directory.Store) directory.State {
	f.Helper()
	state, err := store.State(f.Context())
	if err != nil {
		f.Fatalf("state: %v", err)
	}
	return state
}

func (f fixture) revision(store directory.Store) int64 {
	f.Helper()
	return f.state(store).Revision
}

func (f fixture) epoch(store directory.Store) string {
	f.Helper()
	return f.state(store).Epoch
}

func (f fixture) count(store directory.Store) int64 {
	f.Helper()
	count, err := store.Count(f.Context())
	if err != nil {
		f.Fatalf("count: %v", err)
	}
	return count
}

func (f fixture) begin(store directory.Store) directory.Import {
	f.Helper()
	change, err := store.Import(f.Context(), "storetest")
	if err != nil {
		f.Fatalf("import: %v", err)
	}
	f.Cleanup(func() { change.Rollback() })
	return change
}

// add adds users and returns the duplicates.
func (f fixture) add(change directory.Import, users ...directory.User) []int {
	f.Helper()
	duplicates, err := change.Add(f.Context(), users)
	if err != nil {
		f.Fatalf("add: %v", err)
	}
	return duplicates
}

func (f fixture) commit(change directory.Import) int64 {
	f.Helper()
	done, err := change.Commit(f.Context())
	if err != nil {
		f.Fatalf("commit: %v", err)
	}
	return done.State.Revision
}

func user(id int32) directory.User {
	return directory.User{ID: id, Name: fmt.Sprintf("Zoë %d", id), Age: 40, Email: fmt.Sprintf("u%d@example.com", id)}
}

func users(from, to int32) []directory.User {
	var list []directory.User
	for id := from; id < to; id++ {
		list = append(list, user(id))
	}
	return list
}

func testEmpty(t *testing.T, f fixture) {
	store := f.open()
	f.want(store, []int32{1, 2})
	f.want(store, nil)
	if n := f.count(store); n != 0 {
		t.Fatalf("count %d, want 0", n)
	}
}

func testExtremeIDs(_ *testing.T, f fixture) {
	store := f.open()
	low, high := user(-1<<31), user(1<<31-1)
	zero := directory.User{ID: 0, Name: `O'Brien "Bob" \ 名`, Age: 0}
	f.put(store, high, low, zero)
	f.want(store, []int32{-1 << 31, 0, 1<<31 - 1}, low, zero, high)
}

func testPutReplaces(t *testing.T, f fixture) {
	store := f.open()
	f.put(store, user(1))
	older := directory.User{ID: 1, Name: "Older", Age: 41, Email: "o@example.com"}
	f.put(store, older, user(2))
	f.want(store, []int32{1, 2}, older, user(2))
	if n := f.count(store); n != 2 {
		t.Fatalf("count %d, want 2", n)
	}
}

func testPutInvalid(t *testing.T, f fixture) {
	store := f.open()
	before := f.revision(store)
	_, err := store.Write(t.Context(), putting(user(1), directory.User{ID: 2, Name: "B", Age: -1}))
	if !errors.Is(err, directory.ErrInvalid) {
		t.Fatalf("got %v, want ErrInvalid", err)
	}
	f.want(store, []int32{1, 2})
	if after := f.revision(store); after != before {
		t.Fatalf("revision went from %d to %d", before, after)
	}
}

func testDelete(t *testing.T, f fixture) {
	store := f.open()
	f.put(store, user(1), user(2))
	written := f.write(store, deleting(2, 77))
	if !slices.Equal(written.Deleted, []int32{2}) {
		t.Fatalf("deleted %v, want 2", written.Deleted)
	}
	f.want(store, []int32{1, 2}, user(1))
}

func deleting(ids ...int32) (change directory.Write) {
	for _, id := range ids {
		change.Deletes = append(change.Deletes, directory.Delete{ID: id, AllowMissing: true})
	}
	return change
}

func testRevision(t *testing.T, f fixture) {
	store := f.open()
	start := f.revision(store)
	got := []int64{f.put(store, users(0, 200)...)}
	deleted := f.write(store, deleting(5)).State.Revision
	change := f.begin(store)
	f.add(change, user(9))
	got = append(got, deleted, f.commit(change), f.revision(store))
	if want := []int64{start + 1, start + 2, start + 3, start + 3}; !slices.Equal(got, want) {
		t.Fatalf("revisions %v, want %v", got, want)
	}
}

func testEpoch(t *testing.T, f fixture) {
	store := f.open()
	epoch := f.epoch(store)
	if len(epoch) < 16 {
		t.Fatalf("epoch %q: want at least 64 random bits", epoch)
	}
	f.put(store, user(1))
	other := f.open()
	change := f.begin(other)
	f.add(change, user(2))
	f.commit(change)
	if a, b := f.epoch(store), f.epoch(other); a != epoch || b != epoch {
		t.Errorf("epochs %s and %s, want %s", a, b, epoch)
	}
	if err := errors.Join(store.Close(), other.Close()); err != nil {
		t.Fatal(err)
	}
	if again := f.epoch(f.open()); again != epoch {
		t.Errorf("epoch %s after opening again, want %s", again, epoch)
	}
	if another := f.epoch(fixture{t, f.fresh(t), f.fresh}.open()); another == epoch {
		t.Errorf("another store has the same epoch, %s", epoch)
	}
}

func testImportAtomic(t *testing.T, f fixture) {
	store := f.open()
	before := f.revision(store)
	change := f.begin(store)
	f.add(change, users(0, 1000)...)
	f.want(store, []int32{1, 999})
	if n := f.revision(store); n != before {
		t.Fatalf("revision %d before the commit, want %d", n, before)
	}
	f.commit(change)
	f.want(store, []int32{1, 999}, user(1), user(999))
	if err := change.Rollback(); err != nil {
		t.Fatalf("rollback after commit: %v", err)
	}
	f.want(store, []int32{1}, user(1))
}

func testImportDuplicates(t *testing.T, f fixture) {
	store := f.open()
	change := f.begin(store)
	if duplicates := f.add(change, users(0, 500)...); len(duplicates) != 0 {
		t.Fatalf("duplicates %v among distinct ids", duplicates)
	}
	batch := users(500, 700)
	batch[10] = directory.User{ID: 3, Name: "Again", Age: 1}    // of an earlier Add
	batch[150] = directory.User{ID: 520, Name: "Twice", Age: 1} // of this one
	if got, want := f.add(change, batch...), []int{10, 150}; !slices.Equal(got, want) {
		t.Fatalf("duplicates at %v, want %v", got, want)
	}
	f.commit(change)
	f.want(store, []int32{3, 510, 520, 650, 651}, user(3), user(520), user(651))
}

func testImportManyDuplicates(t *testing.T, f fixture) {
	store := f.open()
	change := f.begin(store)
	const rows = 60_000
	batch, duplicates := make([]directory.User, 0, 1000), 0
	for i := range int32(rows) {
		id := rows - i // descending, so that no id is known to be new
		if i%30 == 29 {
			id = rows
		}
		if batch = append(batch, user(id)); len(batch) == cap(batch) {
			duplicates += len(f.add(change, batch...))
			batch = batch[:0]
		}
	}
	f.commit(change)
	if duplicates != rows/30 {
		t.Fatalf("%d duplicates, want %d", duplicates, rows/30)
	}
}

func testImportReplaces(_ *testing.T, f fixture) {
	store := f.open()
	f.put(store, directory.User{ID: 3, Name: "Before", Age: 1}, directory.User{ID: 300, Name: "Stays", Age: 1})
	change := f.begin(store)
	f.add(change, users(0, 200)...)
	f.commit(change)
	f.want(store, []int32{3, 300}, user(3), directory.User{ID: 300, Name: "Stays", Age: 1})
}

func testImportInvalid(t *testing.T, f fixture) {
	store := f.open()
	change := f.begin(store)
	_, err := change.Add(t.Context(), []directory.User{user(1), {ID: 2}})
	if !errors.Is(err, directory.ErrInvalid) {
		t.Fatalf("got %v, want ErrInvalid", err)
	}
}

func testImportRemoves(t *testing.T, f fixture) {
	store, other := f.open(), f.open()
	f.put(store, users(0, 300)...)
	remove := func(change directory.Import, want int64) {
		t.Helper()
		if removed, err := change.RemoveOthers(t.Context()); err != nil || removed != want {
			t.Fatalf("removed %d, %v, want %d", removed, err, want)
		}
	}
	// One that is rolled back has removed nobody.
	change := f.begin(store)
	f.add(change, user(7))
	remove(change, 299)
	f.want(other, []int32{7, 8}, user(7), user(8))
	if err := change.Rollback(); err != nil {
		t.Fatal(err)
	}
	f.want(store, []int32{7, 8}, user(7), user(8))
	// Whether a user was there before, or comes twice, makes no difference.
	change = f.begin(store)
	f.add(change, append(users(290, 400), user(291), user(5))...)
	before := f.revision(store)
	remove(change, 289)
	remove(change, 0)
	if after := f.commit(change); after != before+1 {
		t.Fatalf("revision %d, want %d", after, before+1)
	}
	f.want(other, []int32{4, 5, 6, 289, 290, 399}, user(5), user(290), user(399))
	if n := f.count(store); n != 111 {
		t.Fatalf("count %d, want 111", n)
	}
	// It may add nobody.
	change = f.begin(store)
	remove(change, 111)
	f.commit(change)
	f.want(other, []int32{5, 399})
}

func testRollback(t *testing.T, f fixture) {
	store := f.open()
	before := f.revision(store)
	change := f.begin(store)
	f.add(change, users(0, 1000)...)
	if err := change.Rollback(); err != nil {
		t.Fatal(err)
	}
	f.want(store, []int32{1, 2})
	if after := f.revision(store); after != before {
		t.Fatalf("revision went from %d to %d", before, after)
	}
	f.put(store, user(1)) // the lock is free again
}

func testReaderNotBlocked(t *testing.T, f fixture) {
	store, other := f.open(), f.open()
	f.put(store, user(1))
	change := f.begin(store)
	f.add(change, users(0, 5000)...)
	for _, reader := range []directory.Store{store, other} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if got, _, err := reader.Get(ctx, []int32{1}); err != nil || len(got) != 1 {
			t.Fatalf("get beside a writer: %v, %v", got, err)
		}
	}
}

func testConcurrentWrites(t *testing.T, f fixture) {
	stores := []directory.Store{f.open(), f.open()}
	start := f.revision(stores[0])
	var group sync.WaitGroup
	for i := range int32(40) {
		group.Go(func() {
			if _, err := stores[i%2].Write(t.Context(), putting(users(i*10, i*10+10)...)); err != nil {
				t.Errorf("put %d: %v", i, err)
			}
		})
	}
	group.Wait()
	if n := f.count(stores[0]); n != 400 {
		t.Fatalf("count %d, want 400", n)
	}
	if end := f.revision(stores[1]); end != start+40 {
		t.Fatalf("revision %d, want %d", end, start+40)
	}
}

func testTwoProcesses(t *testing.T, f fixture) {
	one, other := f.open(), f.open()
	before := f.revision(other)
	written := f.put(one, user(1))
	f.want(other, []int32{1}, user(1))
	if after := f.revision(other); after != written || after == before {
		t.Fatalf("the other sees revision %d, want %d (was %d)", after, written, before)
	}
}

func testOpenTogether(t *testing.T, f fixture) {
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			store, err := f.opener()
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			if err := store.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	group.Wait()
	f.put(f.open(), user(1))
}

func testContext(t *testing.T, f fixture) {
	store := f.open()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	calls := map[string]func() error{
		"get":     func() error { _, _, err := store.Get(ended, []int32{1}); return err },
		"write":   func() error { _, err := store.Write(ended, putting(user(1))); return err },
		"import":  func() error { _, err := store.Import(ended, ""); return err },
		"state":   func() error { _, err := store.State(ended); return err },
		"list":    func() error { _, err := store.List(ended, directory.Query{Limit: 1}); return err },
		"changes": func() error { _, _, err := store.Changes(ended, directory.Cursor{}, 1); return err },
		"export": func() error {
			_, err := store.Export(ended, directory.Filter{}, func(directory.State, []directory.Record) error { return nil })
			return err
		},
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want context.Canceled", name, err)
		}
	}
	f.put(store, user(1)) // nothing is left locked
}

func testDurable(t *testing.T, f fixture) {
	store := f.open()
	revision := f.put(store, users(0, 100)...)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	again := f.open()
	f.want(again, []int32{7}, user(7))
	if got := f.revision(again); got != revision {
		t.Fatalf("revision %d after opening again, want %d", got, revision)
	}
}
