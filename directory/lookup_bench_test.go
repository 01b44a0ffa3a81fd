package directory_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"example.com/roster/directory"
)

// BenchmarkEntries is a look-up of two of a thousand users: from the cache, and from the store itself.
//
//	go test -run '^$' -bench Entries -benchmem -count 5 ./directory
func BenchmarkEntries(b *testing.B) {
	store := openStore(b, filepath.Join(b.TempDir(), "r.db"))
	d := newDirectory(b, store, directory.Config{})
	var users []directory.User
	for id := range int32(1000) {
		users = append(users, named(id, fmt.Sprint("User ", id)))
	}
	put(b, d, users...)
	look := func(b *testing.B, found []*directory.Entry, ids ...int32) {
		if _, err := d.Entries(b.Context(), found[:0], ids); err != nil {
			b.Fatal(err)
		}
	}
	found := make([]*directory.Entry, 0, 2)
	for id := range int32(1000) {
		look(b, found, id)
	}
	b.Run("cached", func(b *testing.B) {
		for n := int32(0); b.Loop(); n++ {
			look(b, found, n%1000, n*7%1000)
		}
	})
	b.Run("get", func(b *testing.B) {
		for n := int32(0); b.Loop(); n++ {
			if users, _, err := store.Get(b.Context(), []int32{n % 1000, n * 7 % 1000}); err != nil || len(users) == 0 {
				b.Fatal(users, err)
			}
		}
	})
}
