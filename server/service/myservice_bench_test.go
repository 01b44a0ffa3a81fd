package service

import (
	"fmt"
	"path/filepath"
	"testing"

	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
)

// BenchmarkUser is a look-up from the ids to the bytes of the reply.
func BenchmarkUser(b *testing.B) {
	store, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "roster.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	var users []directory.User
	for id := range int32(1000) {
		users = append(users, directory.User{ID: id, Name: fmt.Sprintf("User Number %d", id), Age: id % 100, Email: fmt.Sprintf("user.%d@example.com", id)})
	}
	if _, err := store.Put(b.Context(), users); err != nil {
		b.Fatal(err)
	}
	dir, err := directory.New(b.Context(), store, directory.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer dir.Close()
	service := &myService{directory: dir, maxBatch: 10_000}
	for _, n := range []int{2, 100, 1000} {
		var ids []int32
		for id := range n {
			ids = append(ids, int32(id))
		}
		for _, json := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d ids, JSON %v", n, json), func(b *testing.B) {
				var buffer []byte // Connect reuses its own
				marshal := protoCodec{}.MarshalAppend
				if json {
					marshal = jsonCodec{}.MarshalAppend
				}
				request := &userReq{json: json}
				request.UserIDs = ids
				b.ReportAllocs()
				for b.Loop() {
					reply, err := service.User(b.Context(), request)
					if err != nil {
						b.Fatal(err)
					}
					data, err := marshal(buffer[:0], reply)
					if err != nil {
						b.Fatal(err)
					}
					buffer = data
				}
			})
		}
	}
}
