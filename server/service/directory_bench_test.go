package service

import (
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/server/rpc"
)

// BenchmarkBatchGetUsers is a look-up from the ids to the bytes of the reply.
func BenchmarkBatchGetUsers(b *testing.B) {
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
	service := newDirectoryService(dir, 10_000)
	for _, n := range []int{2, 100, 1000} {
		request := &rosterv1.BatchGetUsersRequest{}
		for id := range n {
			request.Ids = append(request.Ids, int32(id))
		}
		for _, json := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d ids, JSON %v", n, json), func(b *testing.B) {
				var buffer []byte // Connect reuses its own
				marshal := protoCodec{}.MarshalAppend
				c, r := rpc.Of(httptest.NewRequestWithContext(b.Context(), "POST", "/", nil))
				if json {
					marshal, c.Codec = jsonCodec{}.MarshalAppend, rpc.JSON
				}
				ctx := r.Context()
				b.ReportAllocs()
				for b.Loop() {
					reply, err := service.BatchGetUsers(ctx, request)
					if err != nil {
						b.Fatal(err)
					}
					if buffer, err = marshal(buffer[:0], reply); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
