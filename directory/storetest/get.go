package storetest

import (
	"context"
	"sync"
	"testing"
)

func testGet(_ *testing.T, f fixture) {
	store := f.open()
	f.put(store, user(1), user(2), user(3))
	f.want(store, []int32{3, 9, 1, 3}, user(1), user(3))
}

func testGetMany(t *testing.T, f fixture) {
	store := f.open()
	all := users(0, 10_000)
	f.put(store, all...)
	ids := make([]int32, len(all))
	for i := range all {
		ids[i] = all[i].ID
	}
	f.want(store, ids, all...)
	if n := f.count(store); n != 10_000 {
		t.Fatalf("count %d, want 10000", n)
	}
}

// Every revision changes the same two users, so what a get returns has the revision of its state.
func testGetState(t *testing.T, f fixture) {
	store, other := f.open(), f.open()
	if users, state, err := store.Get(t.Context(), nil); err != nil || len(users) != 0 || state != f.state(store) {
		t.Errorf("get of no ids is %v at %+v, %v", users, state, err)
	}
	f.put(store, user(1), user(2))
	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	group.Go(func() {
		for n := int32(1); ctx.Err() == nil; n++ {
			change := putting(user(1), user(2))
			change.Updates[0].User.Age, change.Updates[1].User.Age = n%2, n%2
			if _, err := other.Write(ctx, change); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	last := f.state(store)
	for range 300 {
		records, state, err := store.Get(t.Context(), []int32{1, 2, 3})
		if err != nil || len(records) != 2 {
			t.Fatalf("%v, %v", records, err)
		}
		for _, r := range records {
			if r.Revision != state.Revision {
				t.Fatalf("user %d of revision %d at %+v", r.ID, r.Revision, state)
			}
		}
		if state.Epoch != last.Epoch || state.Oldest != last.Oldest || state.Revision < last.Revision {
			t.Fatalf("%+v after %+v", state, last)
		}
		last = state
	}
}
