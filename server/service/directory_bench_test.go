package service

import (
	"fmt"
	"net/http/httptest"
	"testing"

	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/server/rpc"
)

// BenchmarkBatchGetUsers is a look-up from the ids to the bytes of the reply.
func BenchmarkBatchGetUsers(b *testing.B) {
	dir := benchDirectory(b)
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
