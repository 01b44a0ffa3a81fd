package service

import (
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	"example.com/roster/directory/storetest"
	"example.com/roster/server/rpc"
)

// benchDirectory has 1,000 users, with the ids from 0.
func benchDirectory(b *testing.B) *directory.Directory {
	b.Helper()
	store, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "roster.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	var users []directory.User
	for id := range int32(1000) {
		users = append(users, directory.User{ID: id, Name: fmt.Sprintf("User Number %d", id), Age: id % 100, Email: fmt.Sprintf("user.%d@example.com", id)})
	}
	if err := storetest.Put(b.Context(), store, users...); err != nil {
		b.Fatal(err)
	}
	dir, err := directory.New(b.Context(), store, directory.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(dir.Close)
	return dir
}

// BenchmarkUser is a look-up from the ids to the bytes of the reply.
func BenchmarkUser(b *testing.B) {
	dir := benchDirectory(b)
	service := newMyService(dir, 10_000)
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
				request := &userReq{}
				request.UserIDs = ids
				c, r := rpc.Of(httptest.NewRequestWithContext(b.Context(), "POST", "/MyService/User", nil))
				if json {
					c.Codec = rpc.JSON
				}
				ctx := r.Context()
				b.ReportAllocs()
				for b.Loop() {
					reply, err := service.User(ctx, request)
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
