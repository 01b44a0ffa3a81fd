package storetest

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"example.com/roster/directory"
)

var historyTests = []test{
	{"the history has every change once and in order", testHistory},
	{"the history can be cut anywhere", testHistoryCut},
	{"a revision that is not in the history is refused", testHistoryRefuses},
	{"the history is dense beside many writers", testHistoryBesideWriters},
	{"a rollback is not in the history", testHistoryRollback},
}

var importTests = []test{
	{"an import counts and records what it changes", testImportCounts},
	{"an import of emails that are taken", testImportEmails},
	{"an import takes users out again", testImportUndo},
	{"two users swap their emails in one import", testImportSwap},
}

// changes returns all changes after a revision.
func (f fixture) changes(store directory.Store, after int64) []directory.Change {
	f.Helper()
	changes, state, err := store.Changes(f.Context(), directory.Cursor{Revision: after}, 1_000_000)
	if err != nil {
		f.Fatalf("changes after %d: %v", after, err)
	}
	if state != f.state(store) {
		f.Fatalf("state %+v, want %+v", state, f.state(store))
	}
	return changes
}

func testHistory(t *testing.T, f fixture) {
	store, other := f.open(), f.open()
	start := f.state(store)
	created := f.write(store, directory.Write{Actor: "Ann", Creates: creating(user(2), user(1)).Creates})
	renamed := user(1)
	renamed.Name, renamed.Email = "Renamed", "renamed@example.com"
	updated := f.write(other, directory.Write{Actor: "Ben", Updates: []directory.Update{{User: renamed, Fields: directory.AllFields}}})
	f.write(store, directory.Write{Actor: "Cat"})
	deleted := f.write(store, directory.Write{Actor: "Dan", Deletes: []directory.Delete{{ID: 1}}})
	type said struct {
		revision        int64
		actor           string
		kind            directory.Kind
		id              int32
		user, before    string
		index           int
		last, isWritten bool
	}
	r := start.Revision
	want := []said{
		{r + 1, "Ann", directory.Created, 1, user(1).Name, "", 0, false, true},
		{r + 1, "Ann", directory.Created, 2, user(2).Name, "", 1, true, true},
		{r + 2, "Ben", directory.Updated, 1, "Renamed", user(1).Name + user(1).Email, 0, true, true},
		{r + 4, "Dan", directory.Deleted, 1, "", "Renamedrenamed@example.com", 0, true, true},
	}
	records := map[int64][]directory.Record{r + 1: created.Created, r + 2: updated.Updated}
	for _, s := range []directory.Store{store, other} {
		var got []said
		last := start
		for _, c := range f.changes(s, start.Revision) {
			written := c.Kind == directory.Deleted && c.User == directory.Record{User: directory.User{ID: c.User.ID}} ||
				slices.Contains(records[c.Revision], c.User) && c.Time.Equal(c.User.Updated)
			got = append(got, said{c.Revision, c.Actor, c.Kind, c.User.ID, c.User.Name, c.Before.Name + c.Before.Email, c.Index, c.Last, written})
			last.Revision = c.Revision
		}
		if !slices.Equal(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		if last.Revision != deleted.State.Revision {
			t.Errorf("the last revision is %d, want %d", last.Revision, deleted.State.Revision)
		}
	}
	if rest := f.changes(store, deleted.State.Revision); len(rest) != 0 {
		t.Errorf("after the last revision: %+v", rest)
	}
}

func testHistoryCut(t *testing.T, f fixture) {
	store := f.open()
	start := f.revision(store)
	f.put(store, users(0, 7)...)
	f.write(store, directory.Write{})
	f.put(store, user(100))
	f.write(store, deleting(1, 3, 5))
	change := f.begin(store)
	f.add(change, users(200, 213)...)
	f.commit(change)
	all := f.changes(store, start)
	if len(all) != 7+1+3+13 {
		t.Fatalf("%d changes", len(all))
	}
	for limit := 1; limit <= len(all)+1; limit++ {
		for range 2 { // the second time from what is remembered
			var got []directory.Change
			from := directory.Cursor{Epoch: f.epoch(store), Revision: start}
			for {
				changes, _, err := store.Changes(t.Context(), from, limit)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, changes...)
				if len(changes) < limit {
					break
				}
				last := changes[len(changes)-1]
				from.Revision, from.Skip = last.Revision, 0
				if !last.Last {
					from.Revision, from.Skip = last.Revision-1, last.Index+1
				}
			}
			if !slices.Equal(got, all) {
				t.Fatalf("by %d: %d changes, or others, want %d", limit, len(got), len(all))
			}
		}
	}
}

func testHistoryRefuses(t *testing.T, f fixture) {
	store := f.open()
	f.put(store, users(0, 3)...)
	state := f.state(store)
	for name, from := range map[string]directory.Cursor{
		"the future":             {Revision: state.Revision + 1},
		"a part of the future":   {Revision: state.Revision, Skip: 1},
		"another epoch":          {Epoch: "another", Revision: state.Revision},
		"before the oldest":      {Epoch: state.Epoch, Revision: state.Oldest - 1},
		"far before the history": {Revision: -1 << 63},
	} {
		_, _, err := store.Changes(t.Context(), from, 10)
		refused := (*directory.HistoryError)(nil)
		if !errors.As(err, &refused) || !errors.Is(err, directory.ErrHistory) || refused.Asked != from || refused.State != state {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, from := range []directory.Cursor{{Revision: state.Revision}, {Epoch: state.Epoch, Revision: state.Oldest}} {
		if _, _, err := store.Changes(t.Context(), from, 10); err != nil {
			t.Errorf("from %+v: %v", from, err)
		}
	}
}

func testHistoryBesideWriters(t *testing.T, f fixture) {
	stores := []directory.Store{f.open(), f.open()}
	start := f.revision(stores[0])
	const writers, each = 8, 12
	var group sync.WaitGroup
	for w := range int32(writers) {
		group.Go(func() {
			for n := range int32(each) {
				for {
					_, err := stores[w%2].Write(t.Context(), putting(directory.User{ID: w, Name: "N", Age: n}, directory.User{ID: 100 + w, Name: "M", Age: n}))
					if errors.Is(err, directory.ErrUnavailable) {
						continue // others came first for too long, on a busy machine
					}
					if err != nil {
						t.Errorf("write: %v", err)
					}
					break
				}
			}
		})
	}
	// A reader beside them goes on from where it was.
	var got []directory.Change
	from := directory.Cursor{Revision: start}
	for done := false; !done; {
		done = from.Revision == start+writers*each
		changes, state, err := stores[1].Changes(t.Context(), from, 5)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			if from.Revision, from.Skip = c.Revision, 0; !c.Last {
				from.Revision, from.Skip = c.Revision-1, c.Index+1
			}
			if c.Revision > state.Revision {
				t.Fatalf("revision %d at %+v", c.Revision, state)
			}
		}
		got = append(got, changes...)
		if t.Failed() {
			break
		}
	}
	group.Wait()
	ages := make(map[int32]int32)
	for i, c := range got {
		if want := start + 1 + int64(i/2); c.Revision != want || c.Index != i%2 {
			t.Fatalf("change %d is of revision %d, index %d", i, c.Revision, c.Index)
		}
		if want, ok := ages[c.User.ID]; ok && c.User.Age != want+1 {
			t.Fatalf("user %d went from %d to %d", c.User.ID, want, c.User.Age)
		}
		ages[c.User.ID] = c.User.Age
	}
	if len(got) != 2*writers*each {
		t.Errorf("%d changes, want %d", len(got), 2*writers*each)
	}
}

func testHistoryRollback(t *testing.T, f fixture) {
	store := f.open()
	start := f.put(store, user(1))
	change := f.begin(store)
	f.add(change, users(0, 50)...)
	if err := change.Rollback(); err != nil {
		t.Fatal(err)
	}
	f.put(store, user(2))
	if changes := f.changes(store, start); len(changes) != 1 || changes[0].User.ID != 2 || changes[0].Revision != start+1 {
		t.Errorf("changes %+v", changes)
	}
}

func (f fixture) finish(change directory.Import) directory.ImportDone {
	f.Helper()
	done, err := change.Commit(f.Context())
	if err != nil {
		f.Fatalf("commit: %v", err)
	}
	return done
}

func testImportCounts(t *testing.T, f fixture) {
	store := f.open()
	first := f.put(store, users(0, 100)...)
	for _, mirror := range []bool{false, true} {
		start := f.state(store)
		change, err := store.Import(t.Context(), "importer")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { change.Rollback() })
		changed := user(20)
		changed.Name = "Changed"
		if mirror {
			changed.Name = "Changed again"
		}
		f.add(change, append(users(10, 20), changed)...)
		f.add(change, users(200, 205)...)
		want := directory.ImportDone{Created: 5, Updated: 1, Unchanged: 10}
		if mirror {
			if removed, err := change.RemoveOthers(t.Context()); err != nil || removed != 89 {
				t.Fatalf("removed %d, %v", removed, err)
			}
			want = directory.ImportDone{Updated: 1, Unchanged: 15, Removed: 89}
		}
		done := f.finish(change)
		want.State = directory.State{Epoch: start.Epoch, Revision: start.Revision + 1, Oldest: start.Oldest}
		if done != want {
			t.Fatalf("mirror %v: %+v, want %+v", mirror, done, want)
		}
		var kinds [4]int64
		for _, c := range f.changes(store, start.Revision) {
			if kinds[c.Kind]++; c.Actor != "importer" {
				t.Fatalf("%+v", c)
			}
		}
		if kinds != [4]int64{0, want.Created, want.Updated, want.Removed} {
			t.Errorf("mirror %v: kinds %v", mirror, kinds)
		}
		records, _, err := store.Get(t.Context(), []int32{15, 20})
		if err != nil || len(records) != 2 {
			t.Fatal(records, err)
		}
		for _, r := range records {
			if want := map[bool]int64{true: first, false: done.State.Revision}[r.ID == 15]; r.Revision != want {
				t.Errorf("user %d has revision %d, want %d", r.ID, r.Revision, want)
			}
		}
	}
	if n := f.count(store); n != 16 {
		t.Errorf("%d users", n)
	}
}

func testImportEmails(t *testing.T, f fixture) {
	named := func(id int32, email string) directory.User { return directory.User{ID: id, Name: "N", Email: email} }
	store := f.open()
	f.put(store, named(1, "ann@example.com"), named(2, "ben@example.com"), named(3, ""))
	before := f.state(store)
	change := f.begin(store)
	// 5 takes that of 1; 7 and 8 have one; 2 gives its own to 9.
	f.add(change, named(5, "ANN@example.com"), named(8, "cat@example.com"), named(7, "Cat@example.com"), named(2, ""), named(9, "ben@example.com"), named(3, ""), named(10, ""))
	taken, err := change.EmailsTaken(t.Context(), 10)
	if err != nil || len(taken) != 2 || taken[0].ID != 5 || taken[0].Present == nil || taken[0].Present.ID != 1 ||
		taken[1].ID != 8 || taken[1].Present == nil || taken[1].Present.ID != 7 || !errors.Is(&taken[1], directory.ErrEmailTaken) {
		t.Fatalf("taken %+v, %v", taken, err)
	}
	if one, err := change.EmailsTaken(t.Context(), 1); err != nil || len(one) != 1 {
		t.Fatalf("at most one: %+v, %v", one, err)
	}
	if _, err := change.Commit(t.Context()); !errors.Is(err, directory.ErrEmailTaken) {
		t.Fatalf("commit: %v", err)
	}
	if after := f.state(store); after != before {
		t.Fatalf("state %+v, want %+v", after, before)
	}
	f.put(store, user(77)) // the lock is free again
}

func testImportUndo(t *testing.T, f fixture) {
	named := func(id int32, email string) directory.User { return directory.User{ID: id, Name: "N", Email: email} }
	store := f.open()
	f.put(store, named(1, "ann@example.com"), named(2, "ben@example.com"), named(3, "cat@example.com"))
	before, _, err := store.Get(t.Context(), []int32{2})
	if err != nil {
		t.Fatal(err)
	}
	start := f.revision(store)
	change := f.begin(store)
	f.add(change, named(1, "ann@example.com"), named(2, "cat@example.com"), named(4, "ben@example.com"), named(6, "ann@example.com"), named(7, "gus@example.com"))
	var out []int32
	for {
		taken, err := change.EmailsTaken(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(taken) == 0 {
			break
		}
		out = append(out, taken[0].ID)
		if err := change.Undo(t.Context(), []int32{taken[0].ID}); err != nil {
			t.Fatal(err)
		}
	}
	// Without the change of 2, its email is taken again.
	if !slices.Equal(out, []int32{2, 4, 6}) {
		t.Fatalf("taken out: %v", out)
	}
	done := f.finish(change)
	if done.Created != 1 || done.Updated != 0 || done.Unchanged != 1 {
		t.Errorf("done %+v", done)
	}
	f.want(store, []int32{1, 2, 3, 4, 6, 7}, named(1, "ann@example.com"), named(2, "ben@example.com"), named(3, "cat@example.com"), named(7, "gus@example.com"))
	if after, _, err := store.Get(t.Context(), []int32{2}); err != nil || len(after) != 1 || after[0] != before[0] {
		t.Errorf("user 2 is %+v, %v, it was %+v", after, err, before)
	}
	if changes := f.changes(store, start); len(changes) != 1 || changes[0].User.ID != 7 || !changes[0].Last {
		t.Errorf("changes %+v", changes)
	}
}

func testImportSwap(t *testing.T, f fixture) {
	store := f.open()
	f.put(store, user(1), user(2))
	a, b := user(1), user(2)
	a.Email, b.Email = b.Email, a.Email
	change := f.begin(store)
	f.add(change, b, a)
	if done := f.finish(change); done.Updated != 2 {
		t.Errorf("done %+v", done)
	}
	f.want(store, []int32{1, 2}, a, b)
}
