package directory_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/roster/directory"
	"example.com/roster/directory/storetest"
)

// One user of a change is in the cache as it was before, and the other comes from the store.
func TestALookUpHasAllOfAnothersChangeOrNothing(t *testing.T) {
	memory := storetest.NewMemory()
	other := newDirectory(t, memory.Open(), directory.Config{})
	put(t, other, named(1, "old"), named(2, "old"), named(3, "old"))
	d := newDirectory(t, memory.Open(), directory.Config{PollInterval: time.Hour})
	if got := names(t, d, 1); got != "old" {
		t.Fatal(got)
	}
	put(t, other, named(1, "new"), named(2, "new"))
	for _, ids := range [][]int32{{1, 2}, {2, 1}, {2, 2, 1, 9}} {
		if got := names(t, d, ids...); got != "new new" && got != "old old" && got != "new new new" {
			t.Errorf("%v are %s", ids, got)
		}
	}
	if got := names(t, d, 1); got != "new" {
		t.Errorf("after a look-up that had the change, it is %s again", got)
	}

	// The users are there before, and not after it.
	if got := names(t, d, 3); got != "old" {
		t.Fatal(got)
	}
	_, err := other.Write(t.Context(), directory.Write{Deletes: []directory.Delete{{ID: 2}, {ID: 3}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, d, 3, 2); got != "" && got != "old new" {
		t.Errorf("half of a change that deletes two users: %q", got)
	}
}

// committed is a store whose writes are on disk some time before Write returns.
type committed struct {
	directory.Store
	between func()
}

func (c *committed) Write(ctx context.Context, change directory.Write) (directory.Written, error) {
	written, err := c.Store.Write(ctx, change)
	c.between()
	return written, err
}

// A change of this process is on disk, and not yet out of the cache.
func TestALookUpHasAllOfAnOwnChangeOrNothing(t *testing.T) {
	store := &committed{Store: storetest.NewMemory().Open(), between: func() {}}
	d := newDirectory(t, store, directory.Config{PollInterval: time.Hour})
	put(t, d, named(1, "old"), named(2, "old"))
	if got := names(t, d, 1); got != "old" {
		t.Fatal(got)
	}
	store.between = func() {
		if got := names(t, d, 1, 2); got != "new new" && got != "old old" {
			t.Errorf("in the middle of the write they are %s", got)
		}
	}
	put(t, d, named(1, "new"), named(2, "new"))
	if got := names(t, d, 1, 2); got != "new new" {
		t.Errorf("after the write they are %s", got)
	}
}

// What a look-up found beyond the state of the cache is kept once the cache has come there: users that
// nobody has are asked for once, also while others write.
func TestAnswersThatAreNewerThanTheCacheAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.db")
	other, store := openStore(t, path), openStore(t, path)
	d := newDirectory(t, store, directory.Config{PollInterval: time.Hour})
	put(t, other, named(1, "Ann"))
	for range 3 {
		if got := names(t, d, 9, 1); got != "Ann" {
			t.Fatal(got)
		}
	}
	if err := d.WaitFor(t.Context(), revisionOf(t, other)); err != nil {
		t.Fatal(err)
	}
	asked := store.gets.Load()
	if got := names(t, d, 9); got != "" || store.gets.Load() != asked || asked != 1 {
		t.Errorf("the unknown user is %q, after %d queries and %d", got, asked, store.gets.Load())
	}
}

func revisionOf(t *testing.T, store directory.Store) int64 {
	t.Helper()
	state, err := store.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state.Revision
}

// Two thousand users always change together, in this process and in another one. Taking them out of the
// cache takes a while, and look-ups fall into it.
func TestNoLookUpFallsIntoARemoval(t *testing.T) {
	memory := storetest.NewMemory()
	other := newDirectory(t, memory.Open(), directory.Config{})
	const users = 2000
	all := func(age int32) (list []directory.User) {
		for id := range int32(users) {
			list = append(list, directory.User{ID: id, Name: "U", Age: age})
		}
		return list
	}
	put(t, other, all(0)...)
	for name, size := range map[string]int{"all users fit into the cache": users, "the cache is small": users / 2} {
		t.Run(name, func(t *testing.T) {
			d := newDirectory(t, memory.Open(), directory.Config{PollInterval: time.Millisecond, CacheUsers: size})
			var changes, looked, mixed atomic.Int64
			var writers, readers sync.WaitGroup
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for n, by := range []*directory.Directory{other, d} {
				writers.Go(func() {
					for age := range int32(15) {
						put(t, by, all(2*age+int32(n))...)
						changes.Add(1)
						time.Sleep(5 * time.Millisecond)
					}
				})
			}
			for n := range 4 {
				readers.Go(func() {
					for looks := 0; ctx.Err() == nil; looks++ {
						ids := []int32{0, users - 1}
						switch {
						case n == 3: // some that are in the cache and some that are not
							ids = []int32{int32(looks * 7 % users), 0, users - 1, int32(looks * 13 % users)}
						case n == 2: // keeps all of them in the cache
							ids = []int32{int32(looks % users), users - 1 - int32(looks%users)}
						case n == 1:
							ids[0], ids[1] = ids[1], ids[0]
						}
						entries, err := d.Entries(ctx, nil, ids)
						if errors.Is(err, directory.ErrUnavailable) {
							continue // a busy machine
						}
						if ctx.Err() != nil {
							return
						}
						if err != nil {
							t.Error(err)
							return
						}
						looked.Add(1)
						for _, e := range entries {
							if e.User().Age != entries[0].User().Age {
								if mixed.Add(1) == 1 {
									t.Errorf("ids %v have the ages %s", ids, ages(entries))
								}
								break
							}
						}
					}
				})
			}
			writers.Wait()
			cancel()
			readers.Wait()
			t.Logf("%d changes, %d look-ups, %d of them with a part of a change", changes.Load(), looked.Load(), mixed.Load())
		})
	}
}

func ages(entries []*directory.Entry) (list string) {
	for _, e := range entries {
		list += fmt.Sprint(e.User().Age, " ")
	}
	return list
}

// A look-up takes so long that users leave the cache and come back into it meanwhile, as they are after a
// change. It has no misses.
func TestAChangeFallsIntoALookUp(t *testing.T) {
	memory := storetest.NewMemory()
	d := newDirectory(t, memory.Open(), directory.Config{})
	long := make([]int32, 4000) // user 0, many times nobody, and user 2
	for i := range long {
		long[i] = 1
	}
	long[0], long[len(long)-1] = 0, 2
	write := func(age int32) {
		put(t, d, directory.User{ID: 0, Name: "U", Age: age}, directory.User{ID: 2, Name: "U", Age: age})
		names(t, d, 0, 2) // brings them back
	}
	write(0)
	names(t, d, 1)
	ctx, cancel := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	defer writer.Wait()
	defer cancel()
	writer.Go(func() {
		for n := int32(1); ctx.Err() == nil; n++ {
			write(n % 100)
			time.Sleep(100 * time.Microsecond)
		}
	})
	var found []*directory.Entry
	var err error
	for range 100 {
		found, err = d.Entries(t.Context(), found[:0], long)
		if err != nil {
			t.Fatal(err)
		}
		if first, last := found[0].User().Age, found[len(found)-1].User().Age; first != last {
			t.Fatalf("the first user is %d and the last one %d", first, last)
		}
	}
}
