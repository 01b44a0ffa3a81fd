package directory_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	"example.com/roster/directory/storetest"
)

// counting is a real store that counts the look-ups, and can hold or fail them.
type counting struct {
	directory.Store
	gets atomic.Int64
	hold func(ids []int32) error
}

func (c *counting) Get(ctx context.Context, ids []int32) ([]directory.Record, directory.State, error) {
	c.gets.Add(1)
	users, state, err := c.Store.Get(ctx, ids)
	if c.hold != nil {
		if held := c.hold(ids); held != nil {
			return nil, state, held
		}
	}
	return users, state, err
}

func openStore(t testing.TB, path string) *counting {
	t.Helper()
	store, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return &counting{Store: store}
}

func newDirectory(t testing.TB, store directory.Store, config directory.Config) *directory.Directory {
	t.Helper()
	d, err := directory.New(t.Context(), store, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func put(t testing.TB, store storetest.Writer, users ...directory.User) {
	t.Helper()
	if err := storetest.Put(t.Context(), store, users...); err != nil {
		t.Fatal(err)
	}
}

// names looks ids up and joins the names found.
func names(t *testing.T, d *directory.Directory, ids ...int32) string {
	t.Helper()
	users, err := d.Users(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, u := range users {
		list = append(list, u.Name)
	}
	return strings.Join(list, " ")
}

func named(id int32, name string) directory.User { return directory.User{ID: id, Name: name, Age: 30} }

func TestUsersInTheOrderAsked(t *testing.T) {
	store := openStore(t, filepath.Join(t.TempDir(), "r.db"))
	d := newDirectory(t, store, directory.Config{})
	put(t, d, named(1, "Ann"), named(2, "Ben"), named(3, "Cem"))
	for range 2 { // from the store, then from the cache
		if got := names(t, d, 3, 9, 1, 3, 2, 9); got != "Cem Ann Cem Ben" {
			t.Fatalf("got %q", got)
		}
	}
	if got := names(t, d); got != "" {
		t.Fatalf("no ids answer %q", got)
	}
	if n := store.gets.Load(); n != 1 {
		t.Fatalf("%d queries, want 1: unknown ids are remembered too", n)
	}
}

func TestRenderedUsersInTheOrderAsked(t *testing.T) {
	store := openStore(t, filepath.Join(t.TempDir(), "r.db"))
	d := newDirectory(t, store, directory.Config{})
	put(t, d, named(1, "Ann"), named(2, "Ben"))
	if got := names(t, d, 1, 2); got != "Ann Ben" {
		t.Fatal(got)
	}
	// Registered on a directory that has cached users already.
	upper := d.Render("upper", func(dst []byte, user *directory.Record, _ string) ([]byte, error) {
		return append(dst, strings.ToUpper(user.Name)...), nil
	})
	quoted := d.Render("quoted", func(dst []byte, user *directory.Record, _ string) ([]byte, error) {
		return strconv.AppendQuote(dst, user.Name), nil
	})
	empty := d.Render("empty", func(dst []byte, user *directory.Record, _ string) ([]byte, error) { return dst, nil })
	if again := d.Render("quoted", nil); again != quoted {
		t.Errorf("the same name again is %d, want %d", again, quoted)
	}
	for _, test := range []struct {
		ids  []int32
		want string
	}{
		{nil, ""},
		{[]int32{9}, "nobody;"},
		{[]int32{9, 2}, `nobody;BEN "Ben" "";`},
		{[]int32{2, 9, 1, 2}, `BEN "Ben" "";nobody;ANN "Ann" "";BEN "Ben" "";`},
	} {
		for _, from := range []string{"the store", "the cache"} {
			first := make([]*directory.Entry, 1, 8)
			entries, err := d.Entries(t.Context(), first, test.ids)
			if err != nil || len(entries) != 1+len(test.ids) {
				t.Fatalf("%v from %s: %d entries, %v", test.ids, from, len(entries), err)
			}
			var got strings.Builder
			for _, e := range entries[1:] {
				if e == nil {
					got.WriteString("nobody;")
					continue
				}
				fmt.Fprintf(&got, "%s %s %q;", e.Rendered(upper), e.Rendered(quoted), e.Rendered(empty))
			}
			if got.String() != test.want {
				t.Errorf("%v from %s: %s, want %s", test.ids, from, &got, test.want)
			}
		}
	}
}

// A directory has a bound on what it keeps for each user.
func TestTooManyRenderings(t *testing.T) {
	d := newDirectory(t, openStore(t, filepath.Join(t.TempDir(), "r.db")), directory.Config{})
	defer func() {
		if recover() == nil {
			t.Error("the ninth rendering is taken")
		}
	}()
	for n := range 9 {
		d.Render(strconv.Itoa(n), func(dst []byte, _ *directory.Record, _ string) ([]byte, error) { return dst, nil })
	}
}

// Renderings that are registered while the directory is asked are there for every look-up that
// begins afterwards.
func TestRenderingsWhileTheDirectoryIsAsked(t *testing.T) {
	d := newDirectory(t, openStore(t, filepath.Join(t.TempDir(), "r.db")), directory.Config{})
	put(t, d, named(1, "Ann"), named(2, "Ben"))
	done, asking := make(chan struct{}), sync.WaitGroup{}
	for range 4 {
		asking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := d.Entries(t.Context(), nil, []int32{1, 2, 3}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := range 8 {
		id := d.Render(strconv.Itoa(n), func(dst []byte, user *directory.Record, _ string) ([]byte, error) {
			return append(strconv.AppendInt(dst, int64(n), 10), user.Name...), nil
		})
		entries, err := d.Entries(t.Context(), nil, []int32{1, 2})
		if err != nil || entries[0].Rendered(id) != strconv.Itoa(n)+"Ann" || entries[1].Rendered(id) != strconv.Itoa(n)+"Ben" {
			t.Errorf("rendering %d: %v, %v", n, entries, err)
		}
	}
	close(done)
	asking.Wait()
}

func TestWritesThroughTheDirectoryAreSeenAtOnce(t *testing.T) {
	store := openStore(t, filepath.Join(t.TempDir(), "r.db"))
	d := newDirectory(t, store, directory.Config{PollInterval: time.Hour})
	put(t, d, named(1, "Ann"), named(2, "Ben"))
	names(t, d, 1, 2, 3)
	put(t, d, named(1, "Anna"), named(3, "Cem"))
	if got := names(t, d, 1, 2, 3); got != "Anna Ben Cem" {
		t.Fatalf("after put: %q", got)
	}
	if _, err := d.Write(t.Context(), directory.Write{Deletes: []directory.Delete{{ID: 2}}}); err != nil {
		t.Fatal(err)
	}
	if got := names(t, d, 1, 2, 3); got != "Anna Cem" {
		t.Fatalf("after delete: %q", got)
	}
	queries := store.gets.Load()
	put(t, d, named(7, "Gil"))
	names(t, d, 1, 2, 3)
	if n := store.gets.Load(); n != queries {
		t.Fatalf("a write of id 7 made %d queries for others", n-queries)
	}
}

func TestAnotherProcessIsSeenWithinASecond(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.db")
	d := newDirectory(t, openStore(t, path), directory.Config{})
	other := newDirectory(t, openStore(t, path), directory.Config{})
	for i := range 5 {
		want := fmt.Sprint("Ann", i)
		names(t, d, 1)
		put(t, other, named(1, want))
		for deadline := time.Now().Add(time.Second); names(t, d, 1) != want; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("still %q a second after the other wrote %q", names(t, d, 1), want)
			}
		}
	}
}

func TestAHitMakesNoQuery(t *testing.T) {
	store := openStore(t, filepath.Join(t.TempDir(), "r.db"))
	d := newDirectory(t, store, directory.Config{})
	put(t, d, named(1, "Ann"))
	for range 1000 {
		names(t, d, 1, 2)
	}
	if n := store.gets.Load(); n != 1 {
		t.Fatalf("%d queries for 1000 equal look-ups, want 1", n)
	}
}

func TestConcurrentMissesMakeOneQuery(t *testing.T) {
	store := openStore(t, filepath.Join(t.TempDir(), "r.db"))
	release := make(chan struct{})
	store.hold = func([]int32) error { <-release; return nil }
	d := newDirectory(t, store, directory.Config{})
	put(t, d, named(1, "Ann"), named(2, "Ben"), named(3, "Cem"))
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			if got := names(t, d, 2, 1); got != "Ben Ann" {
				t.Errorf("got %q", got)
			}
		})
	}
	for store.gets.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	group.Go(func() { // joins for 1, asks for 3 alone
		if got := names(t, d, 1, 3); got != "Ann Cem" {
			t.Errorf("got %q", got)
		}
	})
	for store.gets.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond) // for those who have not asked yet
	close(release)
	group.Wait()
	if n := store.gets.Load(); n != 2 {
		t.Fatalf("%d queries, want 2", n)
	}
}

func TestACallerWhoGivesUpDoesNotFailTheOthers(t *testing.T) {
	store := openStore(t, filepath.Join(t.TempDir(), "r.db"))
	release := make(chan struct{})
	store.hold = func([]int32) error { <-release; return nil }
	d := newDirectory(t, store, directory.Config{})
	put(t, d, named(1, "Ann"))
	first, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() {
		_, err := d.Users(first, []int32{1})
		gaveUp <- err
	}()
	for store.gets.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	joined := make(chan string)
	go func() { joined <- names(t, d, 1) }()
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Fatalf("the one who gave up got %v", err)
	}
	close(release)
	if got := <-joined; got != "Ann" {
		t.Fatalf("the other got %q", got)
	}
}

func TestAnAnswerFromBeforeAWriteIsNotCached(t *testing.T) {
	store := openStore(t, filepath.Join(t.TempDir(), "r.db"))
	entered, release := make(chan struct{}), make(chan struct{})
	d := newDirectory(t, store, directory.Config{PollInterval: time.Hour})
	put(t, d, named(1, "old"))
	store.hold = func([]int32) error { entered <- struct{}{}; <-release; return nil }
	slow := make(chan string)
	go func() { slow <- names(t, d, 1) }()
	<-entered // the old answer is read, and waits
	put(t, d, named(1, "new"))
	after := make(chan string)
	go func() { after <- names(t, d, 1) }()
	<-entered // it asked anew instead of joining
	close(release)
	if got := <-after; got != "new" {
		t.Fatalf("a look-up after the write got %q", got)
	}
	<-slow
	store.hold = nil
	if got := names(t, d, 1); got != "new" {
		t.Fatalf("the cache kept %q", got)
	}
}

func TestAFailureIsNotCached(t *testing.T) {
	store := openStore(t, filepath.Join(t.TempDir(), "r.db"))
	d := newDirectory(t, store, directory.Config{})
	put(t, d, named(1, "Ann"))
	store.hold = func([]int32) error { return directory.ErrUnavailable }
	if _, err := d.Users(t.Context(), []int32{1}); !errors.Is(err, directory.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	store.hold = nil
	if got := names(t, d, 1); got != "Ann" {
		t.Fatalf("after the store was back: %q", got)
	}
}

// A row that a rendering fails for, since another program broke it, is an error of the look-ups
// that ask for it.
func TestABrokenRowEndsNothing(t *testing.T) {
	d := newDirectory(t, openStore(t, filepath.Join(t.TempDir(), "r.db")), directory.Config{})
	put(t, d, named(1, "Ann"), named(2, "Ben"))
	d.Render("picky", func(dst []byte, user *directory.Record, _ string) ([]byte, error) {
		if user.ID == 2 {
			return nil, errors.New("it is broken")
		}
		return append(dst, user.Name...), nil
	})
	if _, err := d.Entries(t.Context(), nil, []int32{2}); err == nil || !strings.Contains(err.Error(), "encode user 2: it is broken") {
		t.Fatalf("got %v", err)
	}
	if got := names(t, d, 1); got != "Ann" {
		t.Fatalf("another user: %q", got)
	}
}

// A store that panics fails the look-up and not the process.
// A query for several ids fails for one of them: who waited for another id of it is answered.
func TestADamagedUserFailsNobodyElse(t *testing.T) {
	store := openStore(t, filepath.Join(t.TempDir(), "roster.db"))
	put(t, store, named(1, "Ann"), named(2, "Ben"))
	asked, answer := make(chan struct{}, 10), make(chan struct{})
	store.hold = func(ids []int32) error {
		if slices.Contains(ids, 2) {
			asked <- struct{}{}
			<-answer
			return fmt.Errorf("%w: %w", directory.ErrUnavailable, directory.ErrDamaged)
		}
		return nil
	}
	d := newDirectory(t, store, directory.Config{})
	both, one := make(chan error, 1), make(chan error, 1)
	go func() { _, err := d.Users(t.Context(), []int32{1, 2}); both <- err }()
	<-asked
	go func() {
		users, err := d.Users(t.Context(), []int32{1})
		if err == nil && len(users) != 1 {
			err = fmt.Errorf("got %v", users)
		}
		one <- err
	}()
	for d.Stats().Misses < 3 { // until it waits for the first query
		time.Sleep(time.Millisecond)
	}
	close(answer)
	if err := <-both; !errors.Is(err, directory.ErrDamaged) {
		t.Errorf("the call that needs it got %v", err)
	}
	if err := <-one; err != nil {
		t.Errorf("the call that does not need it got %v", err)
	}
	if name := names(t, d, 1); name != "Ann" {
		t.Errorf("user 1 is %s", name)
	}
}

func TestAPanicOfTheStoreEndsNothing(t *testing.T) {
	store := openStore(t, filepath.Join(t.TempDir(), "r.db"))
	d := newDirectory(t, store, directory.Config{})
	store.hold = func([]int32) error { panic("driver") }
	if _, err := d.Users(t.Context(), []int32{1}); err == nil || !strings.Contains(err.Error(), "panic: driver") {
		t.Fatalf("got %v", err)
	}
}

// An answer from before another process's change is not cached when it comes.
func TestAnAnswerFromBeforeAnotherProcessIsNotCached(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.db")
	store := openStore(t, path)
	d := newDirectory(t, store, directory.Config{PollInterval: 10 * time.Millisecond})
	other := openStore(t, path)
	put(t, other, named(1, "old"))
	time.Sleep(100 * time.Millisecond) // until that is noticed
	entered, release := make(chan struct{}, 1), make(chan struct{})
	store.hold = func([]int32) error { entered <- struct{}{}; <-release; return nil }
	slow := make(chan string)
	go func() { slow <- names(t, d, 1) }()
	<-entered
	put(t, other, named(1, "new"))
	time.Sleep(100 * time.Millisecond) // until that is noticed
	close(release)
	<-slow
	if got := names(t, d, 1); got != "new" {
		t.Fatalf("the cache kept %q", got)
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	store := openStore(t, filepath.Join(t.TempDir(), "r.db"))
	d := newDirectory(t, store, directory.Config{CacheUsers: 100})
	ids := make([]int32, 10_000)
	users := make([]directory.User, len(ids))
	for i := range ids {
		ids[i] = int32(i)
		users[i] = named(ids[i], fmt.Sprint("U", i))
	}
	put(t, d, users...)
	for range 2 {
		found, err := d.Users(t.Context(), ids)
		if err != nil || len(found) != len(ids) || found[77].Name != "U77" {
			t.Fatalf("%d users, %v", len(found), err)
		}
	}
	if n := store.gets.Load(); n != 2 {
		t.Fatalf("%d queries, want 2: 10,000 ids do not fit into 100", n)
	}
}

// A reader that sees a write never sees an older one after it, whatever the mix of hits, misses,
// evictions and writers of two processes.
func TestCoherenceUnderLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.db")
	d := newDirectory(t, openStore(t, path), directory.Config{CacheUsers: 8, PollInterval: 5 * time.Millisecond})
	const ids = 16
	var written [ids]atomic.Int32
	for id := range int32(ids) {
		put(t, d, directory.User{ID: id, Name: "U", Age: 0})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var group sync.WaitGroup
	group.Go(func() {
		for n := int32(1); ctx.Err() == nil; n++ {
			id := rand.Int32N(ids)
			age := n % 150
			if age == 0 {
				continue
			}
			if storetest.Put(ctx, d, directory.User{ID: id, Name: "U", Age: age}) == nil {
				written[id].Store(n)
			}
		}
	})
	for range 4 {
		group.Go(func() {
			for ctx.Err() == nil {
				id := rand.Int32N(ids)
				before := written[id].Load()
				users, err := d.Users(ctx, []int32{id})
				if err != nil {
					continue
				}
				after := written[id].Load()
				// With a single writer: no write in between, so it must be this one.
				if before == after && before != 0 && users[0].Age != before%150 {
					// A write may have been committed but not yet noted.
					time.Sleep(20 * time.Millisecond)
					if written[id].Load() == before {
						t.Errorf("id %d: age %d after write %d returned", id, users[0].Age, before%150)
						return
					}
				}
			}
		})
	}
	group.Wait()
}

func TestValidate(t *testing.T) {
	long := strings.Repeat("x", 400)
	tests := []struct {
		user directory.User
		want string
	}{
		{directory.User{Name: "Zoë", Age: 0, Email: ""}, ""},
		{directory.User{Name: "A", Age: 150, Email: "a@b"}, ""},
		{directory.User{Age: 1}, "name is empty"},
		{directory.User{Name: long}, "name has 400 bytes, the limit is 256"},
		{directory.User{Name: "\xff"}, "name is not UTF-8"},
		{directory.User{Name: "a\nb"}, "has a control character"},
		{directory.User{Name: "A", Age: -1}, "age -1 is not between 0 and 150"},
		{directory.User{Name: "A", Age: 151}, "age 151 is not between 0 and 150"},
		{directory.User{Name: "A", Email: "nobody"}, `email "nobody" has no @`},
		{directory.User{Name: "A", Email: long + "@x"}, "email has 402 bytes"},
		{directory.User{Name: "A", Email: "\xff@x"}, "email is not UTF-8"},
		{directory.User{Name: "A", Email: "a@b\x00"}, "has a control character"},
	}
	for _, test := range tests {
		err := test.user.Validate()
		if test.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", test.user, err)
			}
			continue
		}
		if !errors.Is(err, directory.ErrInvalid) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: got %v, want %q", test.user, err, test.want)
		}
	}
}
