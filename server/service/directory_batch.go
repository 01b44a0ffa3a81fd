package service

import (
	"context"
	"strconv"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"

	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/server/rpc"
)

// BatchGetUsers looks users up, each once.
func (s *directoryService) BatchGetUsers(ctx context.Context, request *rosterv1.BatchGetUsersRequest) (*batchReply, error) {
	if err := checkBatch(len(request.GetIds()), s.maxBatch); err != nil {
		return nil, err
	}
	if err := s.waitFor(ctx, request.GetMinRevision()); err != nil {
		return nil, err
	}
	ids := firsts(request.GetIds())
	reply := pooled[batchReply](&s.replies)
	reply.renderings, reply.pool = s.renderings, &s.replies
	if err := reply.look(ctx, s.directory, ids); err != nil {
		return nil, err
	}
	reply.unknown = reply.unknown[:0]
	for i, e := range reply.entries {
		if e == nil {
			reply.unknown = append(reply.unknown, ids[i])
		}
	}
	return reply, checkReply(ctx, reply.encodedSize(codecOf(ctx)))
}

// batchReply is a BatchGetUsersResponse whose users are encoded already. It is used again once the
// codec has it.
type batchReply struct {
	foundUsers
	unknown []int32
	pool    *sync.Pool
}

// AppendProto implements encoder. The reply is over then.
func (r *batchReply) AppendProto(dst []byte) ([]byte, error) {
	dst = r.appendProto(dst)
	if len(r.unknown) > 0 {
		dst = protowire.AppendTag(dst, 2, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(r.unknownSize()))
		for _, id := range r.unknown {
			dst = protowire.AppendVarint(dst, uint64(id))
		}
	}
	r.giveBack()
	return dst, nil
}

// AppendJSON implements encoder. The reply is over then.
func (r *batchReply) AppendJSON(dst []byte) ([]byte, error) {
	dst = r.appendJSON(append(dst, batchStart...))
	dst = append(dst, batchMiddle...)
	for i, id := range r.unknown {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, int64(id), 10)
	}
	dst = append(dst, jsonEnd...)
	r.giveBack()
	return dst, nil
}

// batchStart and batchMiddle stand before the users and the unknown ids in JSON.
const (
	batchStart  = `{"users":[`
	batchMiddle = `],"unknownIds":[`
)

// unknownSize is how many bytes the packed unknown ids have in protobuf.
func (r *batchReply) unknownSize() int {
	size := 0
	for _, id := range r.unknown {
		size += protowire.SizeVarint(uint64(id))
	}
	return size
}

// encodedSize is how many bytes the reply has in a codec.
func (r *batchReply) encodedSize(codec rpc.Codec) int {
	size := r.size(codec)
	if codec == rpc.Proto {
		if len(r.unknown) > 0 {
			size += protowire.SizeTag(2) + protowire.SizeBytes(r.unknownSize())
		}
		return size
	}
	size = len(batchStart) + max(size-1, 0) + len(batchMiddle) + len(jsonEnd)
	var digits [len("-2147483648")]byte
	for i, id := range r.unknown {
		size += len(strconv.AppendInt(digits[:0], int64(id), 10))
		if i > 0 {
			size++ // the comma
		}
	}
	return size
}

func (r *batchReply) giveBack() {
	if r.foundUsers.giveBack() && cap(r.unknown) <= maxPooledEntries {
		r.pool.Put(r)
	}
}

// firsts returns ids without repeats, in the order in which each came first. Ids that ascend, as
// they most often do, have none.
func firsts(ids []int32) []int32 {
	if ascending(ids) {
		return ids
	}
	seen := make(map[int32]struct{}, len(ids))
	unique := make([]int32, 0, len(ids))
	for _, id := range ids {
		if _, ok := seen[id]; !ok {
			seen[id] = struct{}{}
			unique = append(unique, id)
		}
	}
	return unique
}

// ascending tells whether each of ids is greater than the one before it.
func ascending(ids []int32) bool {
	for i := 1; i < len(ids); i++ {
		if ids[i] <= ids[i-1] {
			return false
		}
	}
	return true
}
