package service

import (
	"context"
	"net/http"
	"strconv"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"example.com/roster/directory"
	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/gen/go/roster/v1/rosterv1connect"
	"example.com/roster/server/rpc"
)

// directoryMount mounts the directory's own API.
func directoryMount(config Config) rpc.Mount {
	descriptor := rosterv1.File_roster_v1_directory_proto.Services().ByName("DirectoryService")
	batchGetUsers := lookUp(config.MaxBatch)
	batchGetUsers.Example = `{"ids":[1,2]}`
	policies := map[string]rpc.Policy{"BatchGetUsers": batchGetUsers}
	return rpc.Mount{
		Service: descriptor,
		Handler: newDirectoryService(config.Directory, config.MaxBatch).handler(
			handlerOptions(config.Log, policies), connect.WithInterceptors(newValidation(descriptor))),
		Policies: policies,
	}
}

// directoryService is the directory's own API.
type directoryService struct {
	directory  *directory.Directory
	maxBatch   int
	renderings renderings
	replies    sync.Pool // of *batchReply
}

func newDirectoryService(dir *directory.Directory, maxBatch int) *directoryService {
	return &directoryService{directory: dir, maxBatch: maxBatch,
		renderings: renderUsers(dir, "BatchGetUsersResponse.users", 1, func(user *directory.User) proto.Message {
			return &rosterv1.User{Id: user.ID, Name: user.Name, Age: user.Age, Email: user.Email}
		}, appendDirectoryUserJSON)}
}

// handler is what rosterv1connect.NewDirectoryServiceHandler makes, except that BatchGetUsers has
// the reply below.
func (s *directoryService) handler(options ...connect.HandlerOption) http.Handler {
	const path = rosterv1connect.DirectoryServiceBatchGetUsersProcedure
	method := rosterv1.File_roster_v1_directory_proto.Services().ByName("DirectoryService").Methods().ByName("BatchGetUsers")
	batchGetUsers := connect.NewUnaryHandlerSimple(path, s.BatchGetUsers, append([]connect.HandlerOption{
		connect.WithSchema(method), connect.WithIdempotency(connect.IdempotencyNoSideEffects)}, options...)...)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == path {
			batchGetUsers.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	})
}

// BatchGetUsers looks users up, each once.
func (s *directoryService) BatchGetUsers(ctx context.Context, request *rosterv1.BatchGetUsersRequest) (*batchReply, error) {
	if err := checkBatch(len(request.GetIds()), s.maxBatch); err != nil {
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
