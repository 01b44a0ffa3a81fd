package directory_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/roster/directory"
	"example.com/roster/directory/storetest"
)

// opened is a directory on a model of a store.
func opened(t *testing.T, poll time.Duration) (*storetest.Memory, *directory.Directory) {
	t.Helper()
	memory := storetest.NewMemory()
	return memory, newDirectory(t, memory.Open(), directory.Config{PollInterval: poll})
}

func watch(t *testing.T, d *directory.Directory, from directory.WatchFrom) *directory.Watch {
	t.Helper()
	w, err := d.Watch(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

var kinds = map[directory.Kind]string{directory.Created: "created", directory.Updated: "updated", directory.Deleted: "deleted",
	directory.Existing: "existing", directory.Left: "left"}

// told returns what a watch says up to a revision.
func told(t *testing.T, w *directory.Watch, revision int64) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var list []string
	for {
		batch, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("after %q: %v", list, err)
		}
		for _, c := range batch.Changes {
			list = append(list, fmt.Sprintf("%d:%s %d%s", c.Revision, kinds[c.Kind], c.User.ID, c.User.Name))
		}
		if batch.UpTo.Revision >= revision && batch.UpTo.Epoch != "" {
			return strings.Join(list, ", ")
		}
	}
}

func TestAWatchTellsEachChangeOnceAndInOrder(t *testing.T) {
	_, d := opened(t, time.Hour)
	put(t, d, named(1, "Ann"), named(2, "Ben"))
	now := watch(t, d, directory.WatchFrom{})
	whole := watch(t, d, directory.WatchFrom{Cursor: &directory.Cursor{}})
	half := watch(t, d, directory.WatchFrom{Cursor: &directory.Cursor{Skip: 1}})
	all := watch(t, d, directory.WatchFrom{Beginning: true})
	put(t, d, named(2, "Bea"))
	put(t, d, named(2, "Bea")) // a revision without changes
	if _, err := d.Write(t.Context(), directory.Write{Deletes: []directory.Delete{{ID: 1}}}); err != nil {
		t.Fatal(err)
	}
	rest := "2:updated 2Bea, 4:deleted 1"
	for _, test := range []struct {
		watch *directory.Watch
		want  string
	}{
		{now, rest},
		{whole, "1:created 1Ann, 1:created 2Ben, " + rest},
		{half, "1:created 2Ben, " + rest},
		{all, rest}, // both users were changed before the list came to them
		{watch(t, d, directory.WatchFrom{Beginning: true}), "2:existing 2Bea"},
		{watch(t, d, directory.WatchFrom{Cursor: &directory.Cursor{Revision: 3}}), "4:deleted 1"},
	} {
		if got := told(t, test.watch, 4); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

func TestAWatchWithAFilterTellsWhoLeaves(t *testing.T) {
	_, d := opened(t, time.Hour)
	put(t, d, named(1, "Ann"), named(2, "Anton"), named(3, "Ben"))
	filter := directory.Filter{NamePrefix: "an"}
	all := watch(t, d, directory.WatchFrom{Beginning: true, Filter: filter})
	if got, want := told(t, all, 1), "1:existing 1Ann, 1:existing 2Anton"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	put(t, d, named(1, "Zoe"), named(3, "ANDY"), named(4, "Gil"))
	put(t, d, named(1, "Zoë"))
	if _, err := d.Write(t.Context(), directory.Write{Deletes: []directory.Delete{{ID: 2}, {ID: 4}}}); err != nil {
		t.Fatal(err)
	}
	if got, want := told(t, all, 4), "2:left 1, 2:updated 3ANDY, 4:deleted 2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAWatchBeginsWhereThereIsAHistory(t *testing.T) {
	memory, d := opened(t, time.Hour)
	memory.Keep(1)
	for n := range 3 {
		put(t, d, named(int32(n), "Ann"))
	}
	epoch := d.State().Epoch
	if err := memory.Open().Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, cursor := range []directory.Cursor{{Revision: 1}, {Revision: 4}, {Revision: 3, Skip: 1}, {Epoch: "other", Revision: 3}} {
		_, err := d.Watch(t.Context(), directory.WatchFrom{Cursor: &cursor})
		if history := (*directory.HistoryError)(nil); !errors.As(err, &history) || history.Asked != cursor || history.State.Revision != 3 {
			t.Errorf("%+v: got %v", cursor, err)
		}
	}
	if got := told(t, watch(t, d, directory.WatchFrom{Cursor: &directory.Cursor{Epoch: epoch, Revision: 2}}), 3); got != "3:created 2Ann" {
		t.Error(got)
	}
}

// A history that ends under a watch ends it, and the cache with it.
// A watch that goes on where the directory is knows at once that it has told everything.
func TestAWatchFromTheLastRevisionHasProgressAtOnce(t *testing.T) {
	_, d := opened(t, time.Hour)
	put(t, d, named(1, "Ann"))
	before := time.Now()
	last := watch(t, d, directory.WatchFrom{Cursor: &directory.Cursor{Revision: d.State().Revision}})
	if upTo, asOf := last.Progress(); upTo.Revision != 1 || asOf.Before(before) {
		t.Errorf("everything is told up to %+v, as of %v", upTo, asOf)
	}
	// One that is behind does not.
	if _, asOf := watch(t, d, directory.WatchFrom{Cursor: &directory.Cursor{}}).Progress(); !asOf.IsZero() {
		t.Errorf("a watch that is behind has told everything as of %v", asOf)
	}
}

func TestAHistoryThatEndsEndsWatches(t *testing.T) {
	for name, end := range map[string]func(*storetest.Memory){
		"restored": func(m *storetest.Memory) { m.Restore(); m.Edit(1, "Anna") },
		"edited":   func(m *storetest.Memory) { m.Edit(1, "Anna") },
	} {
		t.Run(name, func(t *testing.T) {
			memory, d := opened(t, 10*time.Millisecond)
			put(t, d, named(1, "Ann"))
			w := watch(t, d, directory.WatchFrom{})
			listing := watch(t, d, directory.WatchFrom{Beginning: true})
			if got := names(t, d, 1); got != "Ann" {
				t.Fatal(got)
			}
			end(memory)
			for _, w := range []*directory.Watch{w, listing} {
				if _, err := w.Next(t.Context()); !errors.Is(err, directory.ErrHistory) {
					t.Errorf("got %v", err)
				}
				if _, err := w.Next(t.Context()); !errors.Is(err, directory.ErrHistory) {
					t.Errorf("again: %v", err)
				}
			}
			for deadline := time.Now().Add(20 * time.Second); names(t, d, 1) != "Anna"; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the cache keeps the user from before")
				}
			}
			if d.Stats().WatchesLost != 2 {
				t.Errorf("%+v", d.Stats())
			}
			put(t, d, named(2, "Ben"))
			again := watch(t, d, directory.WatchFrom{Beginning: true})
			if got := told(t, again, d.State().Revision); !strings.Contains(got, "Anna") || !strings.Contains(got, "Ben") {
				t.Error(got)
			}
		})
	}
}

// Many writers of two processes, and watches that come back where they were: nobody misses a change.
func TestWatchesUnderWriters(t *testing.T) {
	memory, d := opened(t, 5*time.Millisecond)
	other := memory.Open()
	const writers, writes = 8, 150
	var group sync.WaitGroup
	for n := range writers {
		var to storetest.Writer = d
		if n%2 == 0 {
			to = other
		}
		group.Go(func() {
			for i := range writes {
				put(t, to, named(int32(n), fmt.Sprint("A", i)), named(int32(100+n), fmt.Sprint("B", i)))
			}
		})
	}
	for range 10 {
		group.Go(func() {
			var cursor directory.Cursor
			last := directory.Change{}
			for cursor.Revision < writers*writes {
				w := watch(t, d, directory.WatchFrom{Cursor: &cursor})
				for range 5 {
					batch, err := w.Next(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					for _, c := range batch.Changes {
						if c.Revision <= cursor.Revision {
							continue
						}
						if !(c.Revision == last.Revision && c.Index == last.Index+1 || c.Revision == last.Revision+1 && c.Index == 0) {
							t.Errorf("%d/%d after %d/%d", c.Revision, c.Index, last.Revision, last.Index)
							return
						}
						last = c
					}
					if cursor.Revision = batch.UpTo.Revision; cursor.Revision == writers*writes {
						break
					}
				}
				w.Close()
				if !last.Last {
					last.Revision, last.Index = cursor.Revision, 1 // that revision comes again
				}
			}
		})
	}
	group.Wait()
}

// Whoever watches where there is nothing to tell learns at once that this is all.
func TestAWatchWithNothingToTellSaysSo(t *testing.T) {
	for _, users := range [][]directory.User{nil, {named(1, "Ann")}} {
		_, d := opened(t, time.Hour)
		put(t, d, users...)
		at := d.State()
		for name, from := range map[string]directory.WatchFrom{
			"the beginning":                   {Beginning: true, Filter: directory.Filter{NamePrefix: "z"}},
			"the beginning of all":            {Beginning: true},
			"now":                             {},
			"the last revision":               {Cursor: &directory.Cursor{Revision: at.Revision}},
			"the last revision of this epoch": {Cursor: &directory.Cursor{Epoch: at.Epoch, Revision: at.Revision}},
		} {
			w := watch(t, d, from)
			if from.Beginning {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				if batch, err := w.Next(ctx); err != nil || batch.UpTo.Revision != at.Revision || batch.UpTo.Epoch != at.Epoch {
					t.Errorf("%d users, from %s: %+v, %v", len(users), name, batch, err)
				}
				cancel()
			}
			if upTo, asOf := w.Progress(); upTo.Revision != at.Revision || upTo.Epoch != at.Epoch || asOf.IsZero() {
				t.Errorf("%d users, from %s: up to %+v as of %v", len(users), name, upTo, asOf)
			}
			w.Close()
		}
	}
}

// A watch that stands still is dropped when the feed needs its room; the others and the writers go on.
func TestASlowWatchIsDropped(t *testing.T) {
	_, d := opened(t, time.Hour)
	slow, quick := watch(t, d, directory.WatchFrom{}), watch(t, d, directory.WatchFrom{})
	done := make(chan string, 1)
	const rounds, each = 30, 400
	go func() {
		count := 0
		for {
			batch, err := quick.Next(t.Context())
			if err != nil {
				done <- err.Error()
				return
			}
			if count += len(batch.Changes); batch.UpTo.Revision == rounds {
				done <- fmt.Sprint(count)
				return
			}
		}
	}()
	for round := range rounds {
		var users []directory.User
		for id := range each {
			users = append(users, named(int32(id), fmt.Sprint("A", round)))
		}
		put(t, d, users...)
	}
	if got := <-done; got != fmt.Sprint(rounds*each) {
		t.Errorf("the quick one got %s", got)
	}
	if _, err := slow.Next(t.Context()); !errors.Is(err, directory.ErrSlow) || !strings.Contains(err.Error(), "watch again from revision 0") {
		t.Errorf("the slow one got %v", err)
	}
	if stats := d.Stats(); stats.WatchesSlow != 1 || stats.Watches != 2 {
		t.Errorf("%+v", stats)
	}
}

func TestTheEndOfADirectoryEndsItsWatches(t *testing.T) {
	_, d := opened(t, time.Hour)
	w := watch(t, d, directory.WatchFrom{})
	ended := make(chan error)
	go func() { _, err := w.Next(t.Context()); ended <- err }()
	d.Close()
	if err := <-ended; !errors.Is(err, directory.ErrUnavailable) {
		t.Error(err)
	}
	if _, err := d.Watch(t.Context(), directory.WatchFrom{}); !errors.Is(err, directory.ErrUnavailable) {
		t.Error(err)
	}
}

func TestProgressIsAsOldAsTheAnswerOfTheStore(t *testing.T) {
	_, d := opened(t, 5*time.Millisecond)
	put(t, d, named(1, "Ann"))
	w := watch(t, d, directory.WatchFrom{})
	since := time.Now()
	for deadline := since.Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		upTo, asOf := w.Progress()
		if upTo.Revision == 1 && asOf.After(since) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("up to %+v as of %v, begun %v", upTo, asOf, since)
		}
	}
	// What the watch has not returned is not told, whatever the feed has.
	put(t, d, named(1, "Anna"))
	time.Sleep(50 * time.Millisecond)
	before := time.Now()
	time.Sleep(20 * time.Millisecond)
	if upTo, asOf := w.Progress(); upTo.Revision != 1 || asOf.After(before) {
		t.Errorf("up to %+v as of %v", upTo, asOf)
	}
}

func TestWaitFor(t *testing.T) {
	memory, d := opened(t, time.Hour)
	other := memory.Open()
	put(t, d, named(1, "Ann"))
	if got := names(t, d, 1, 2); got != "Ann" {
		t.Fatal(got)
	}
	put(t, other, named(1, "Anna"))
	put(t, other, named(2, "Ben"))
	if err := d.WaitFor(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if got := names(t, d, 1, 2); got != "Anna Ben" {
		t.Errorf("after waiting: %s", got)
	}
	var history *directory.HistoryError
	if err := d.WaitFor(t.Context(), 4); !errors.As(err, &history) || history.State.Revision != 3 || history.Asked.Revision != 4 {
		t.Errorf("a revision of the future: %v", err)
	}
}

// Only what others have changed leaves the cache.
func TestOthersChangesLeaveTheRestOfTheCache(t *testing.T) {
	memory := storetest.NewMemory()
	store := &counting{Store: memory.Open()}
	d := newDirectory(t, store, directory.Config{PollInterval: time.Hour})
	put(t, d, named(1, "Ann"), named(2, "Ben"))
	names(t, d, 1, 2)
	other := memory.Open()
	put(t, other, named(2, "Bea"))
	if err := d.WaitFor(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	asked := store.gets.Load()
	if got := names(t, d, 1); got != "Ann" || store.gets.Load() != asked {
		t.Errorf("%s after %d queries", got, store.gets.Load()-asked)
	}
	if got := names(t, d, 2); got != "Bea" {
		t.Error(got)
	}
	// Beyond some thousands all leave it.
	var many []directory.User
	for id := range int32(5000) {
		many = append(many, named(id, "Cem"))
	}
	put(t, other, many...)
	if err := d.WaitFor(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if got := names(t, d, 1, 4999); got != "Cem Cem" {
		t.Error(got)
	}
}

func TestAnImportThroughTheDirectoryIsSeenAtOnce(t *testing.T) {
	_, d := opened(t, time.Hour)
	put(t, d, named(1, "Ann"), named(2, "Ben"))
	names(t, d, 1, 2, 3)
	change, err := d.Import(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer change.Rollback()
	if _, err := change.Add(t.Context(), []directory.User{named(1, " Anna "), named(3, "Cem")}); err != nil {
		t.Fatal(err)
	}
	if _, err := change.RemoveOthers(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := names(t, d, 1, 2, 3); got != "Ann Ben" {
		t.Errorf("before the commit: %s", got)
	}
	if done, err := change.Commit(t.Context()); err != nil || done.Removed != 1 {
		t.Fatal(done, err)
	}
	if got := names(t, d, 1, 2, 3); got != "Anna Cem" {
		t.Errorf("after it: %s", got)
	}
}

func TestAnInvalidUserInAWrite(t *testing.T) {
	_, d := opened(t, time.Hour)
	put(t, d, named(1, "Ann"))
	for _, change := range []directory.Write{
		{Creates: []directory.Create{{User: named(2, "Ben")}, {User: directory.User{ID: 3}}}},
		{Updates: []directory.Update{{User: named(1, "Ben")}, {User: directory.User{ID: 3, Age: -1}, Fields: directory.AgeField}}},
	} {
		_, err := d.Write(t.Context(), change)
		var at *directory.ChangeError
		if !errors.As(err, &at) || !errors.Is(err, directory.ErrInvalid) || at.Index != 1 || at.ID != 3 {
			t.Errorf("got %v", err)
		}
	}
	// Fields that an update leaves alone are not looked at.
	change := directory.Write{Updates: []directory.Update{{User: directory.User{ID: 1, Age: 31}, Fields: directory.AgeField}}}
	if written, err := d.Write(t.Context(), change); err != nil || written.Updated[0].Age != 31 || written.Updated[0].Name != "Ann" {
		t.Error(written, err)
	}
}

func TestEtags(t *testing.T) {
	epoch := "0123456789abcdef0123456789abcdef"
	seen := make(map[string]bool)
	for _, epoch := range []string{epoch, "fedcba9876543210", "a name", "ABCD"} {
		for _, id := range []int32{-1 << 31, -1, 0, 1, 300, 1<<31 - 1} {
			for _, revision := range []int64{1, 2, 1 << 62} {
				etag := directory.Etag(epoch, &directory.Record{User: directory.User{ID: id}, Revision: revision})
				got, expected, err := directory.ParseEtag(etag)
				if err != nil || got != id || expected != (directory.Expected{Epoch: epoch, Revision: revision}) || seen[etag] {
					t.Errorf("%s: %d, %+v, %v", etag, got, expected, err)
				}
				if len(etag) > 48 || strings.Trim(etag, "-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
					t.Errorf("%q", etag)
				}
				seen[etag] = true
			}
		}
	}
	good := directory.Etag(epoch, &directory.Record{Revision: 7})
	for _, wrong := range []string{"", "x", "*", `"` + good + `"`, good[:len(good)-1], good + "A", good[1:], strings.Repeat("A", 5000)} {
		if _, _, err := directory.ParseEtag(wrong); !errors.Is(err, directory.ErrInvalid) {
			t.Errorf("%.50q: %v", wrong, err)
		}
	}
}

func FuzzParseEtag(f *testing.F) {
	f.Add(directory.Etag("0123456789abcdef", &directory.Record{Revision: 7}))
	f.Fuzz(func(t *testing.T, text string) {
		id, expected, err := directory.ParseEtag(text)
		if err == nil && directory.Etag(expected.Epoch, &directory.Record{User: directory.User{ID: id}, Revision: expected.Revision}) != text {
			t.Errorf("%q is not what Etag returns", text)
		}
	})
}

// A change is read from the store once, and encoded once, however many watches tell of it.
func TestWatchesShareTheWork(t *testing.T) {
	store := &reading{Store: storetest.NewMemory().Open()}
	d := newDirectory(t, store, directory.Config{PollInterval: time.Hour})
	const watches, changes = 1000, 20
	var group sync.WaitGroup
	var encoded, leavers atomic.Int64
	for n := range watches {
		from := directory.WatchFrom{}
		if n%2 == 1 {
			from.Filter.NamePrefix = "a" // the user leaves at the last change
		}
		w := watch(t, d, from)
		group.Go(func() {
			for told := 0; told < changes; {
				batch, err := w.Next(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				for i := range batch.Changes {
					c := &batch.Changes[i]
					told++
					encode := func(kind string) func() ([]byte, error) {
						return func() ([]byte, error) {
							encoded.Add(1)
							return fmt.Append(nil, kind, c.Kind, c.User.Name), nil
						}
					}
					if c.Kind == directory.Left {
						leavers.Add(1)
						continue
					}
					for number, kind := range []string{"protobuf", "JSON"} {
						text, err := c.Encoded(number, encode(kind))
						if want := fmt.Sprint(kind, c.Kind, c.User.Name); err != nil || string(text) != want {
							t.Errorf("encoded %q, %v, want %q", text, err, want)
						}
					}
				}
			}
		})
	}
	for n := range changes {
		name := fmt.Sprint("A", n)
		if n == changes-1 {
			name = "B"
		}
		put(t, d, named(1, name))
	}
	group.Wait()
	if n := encoded.Load(); n != 2*changes || leavers.Load() != watches/2 {
		t.Errorf("%d encodings of %d changes in two forms, %d told that the user left", n, changes, leavers.Load())
	}
	// The feed looks once more, and others who look do not count with the watches.
	if n := store.reads.Load(); n > 3*changes {
		t.Errorf("the store was asked for changes %d times", n)
	}
}

// reading is a store that counts how often it is asked for changes.
type reading struct {
	directory.Store
	reads atomic.Int64
}

func (r *reading) Changes(ctx context.Context, from directory.Cursor, limit int) ([]directory.Change, directory.State, error) {
	r.reads.Add(1)
	return r.Store.Changes(ctx, from, limit)
}
