package service

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"path"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/roster/directory"
	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/gen/go/roster/v1/rosterv1connect"
	"example.com/roster/server/drain"
	"example.com/roster/server/rpc"
)

// Limits of the directory's API that no flag sets.
const (
	// maxQuery is the maximum size of a request with a filter and a page token, or with one user, in bytes:
	// what the rules of its fields allow, in JSON with escapes.
	maxQuery = 16 << 10
	// entryBytes is how much of the limit of BatchUpdateUsers each entry of --max-batch adds.
	entryBytes = 1 << 10
	// maxExports is how many exports may run at a time. Each keeps a state of the store.
	maxExports = 4
	// maxImports is how many calls of ImportUsers may be open. One of them imports, and the others are told.
	maxImports = 8
)

// ImportLimits are what one call of ImportUsers may take. The zero value of a field means its default.
type ImportLimits struct {
	// Quiet is how long the caller may send nothing: 30 s by default.
	Quiet time.Duration
	// Time is how long the rows may take to arrive in all: an hour by default.
	Time time.Duration
	// Bytes is how much the rows may take in a temporary file: 4 GiB by default, which are some fifty million users.
	Bytes int64
}

func (l ImportLimits) withDefaults() ImportLimits {
	return ImportLimits{
		Quiet: cmp.Or(l.Quiet, 30*time.Second), Time: cmp.Or(l.Time, time.Hour), Bytes: cmp.Or(l.Bytes, 4<<30),
	}
}

// directoryMount mounts the directory's own API.
func directoryMount(config Config) rpc.Mount {
	service := newDirectoryService(config.Directory, config.MaxBatch)
	service.drain, service.log, service.maxSpool = config.Drain, config.Log, config.Imports.withDefaults().Bytes
	policies := directoryPolicies(config)
	return rpc.Mount{
		Service: directoryDescriptor(),
		Handler: service.handler(
			handlerOptions(config.Log, policies), connect.WithInterceptors(service.rules)),
		Policies: policies,
	}
}

func directoryDescriptor() protoreflect.ServiceDescriptor {
	return rosterv1.File_roster_v1_directory_proto.Services().ByName("DirectoryService")
}

func directoryPolicies(config Config) map[string]rpc.Policy {
	policy := func(role rpc.Role, maxMessage int, example string) rpc.Policy {
		return rpc.Policy{Role: role, Upstream: rpc.Store, MaxMessage: maxMessage, Example: example}
	}
	paged := func(p rpc.Policy) rpc.Policy { p.OwnReply = true; return p }
	batchGetUsers := lookUp(config.MaxBatch)
	batchGetUsers.Example = `{"ids":[1,2]}`
	batchUpdateUsers := policy(rpc.Writer, rpc.MaxMessageBytes, `{"updates":[{"user":{"id":1,"age":38}}],"validate_only":true}`)
	if config.MaxBatch < (rpc.MaxMessageBytes-maxQuery)/entryBytes {
		batchUpdateUsers.MaxMessage, batchUpdateUsers.MessageFlag = maxQuery+entryBytes*config.MaxBatch, "--max-batch"
	}
	importUsers := policy(rpc.Writer, rpc.MaxMessageBytes, "")
	limits := config.Imports.withDefaults()
	importUsers.MaxStreams, importUsers.MaxQuiet, importUsers.MaxTime = maxImports, limits.Quiet, limits.Time
	exportUsers := policy(rpc.Reader, maxQuery, `{"filter":"name = \"a*\""}`)
	exportUsers.MaxStreams = maxExports
	watchUsers := policy(rpc.Reader, maxQuery, `{}`)
	watchUsers.MaxStreams, watchUsers.StreamsFlag = config.MaxWatches, "--max-watches"
	return map[string]rpc.Policy{
		"GetUser":          policy(rpc.Reader, smallMessage, `{"id":1}`),
		"BatchGetUsers":    batchGetUsers,
		"ListUsers":        paged(policy(rpc.Reader, maxQuery, `{"filter":"name = \"a*\"","order_by":"name"}`)),
		"CreateUser":       policy(rpc.Writer, maxQuery, `{"user":{"name":"Ann","email":"ann@example.com"},"validate_only":true}`),
		"UpdateUser":       policy(rpc.Writer, maxQuery, `{"user":{"id":1,"age":38},"validate_only":true}`),
		"DeleteUser":       policy(rpc.Writer, smallMessage, `{"id":1,"validate_only":true}`),
		"BatchUpdateUsers": batchUpdateUsers,
		"ImportUsers":      importUsers,
		"ExportUsers":      exportUsers,
		"WatchUsers":       watchUsers,
		"ListChanges":      paged(policy(rpc.Writer, maxQuery, `{}`)),
	}
}

// directoryService is the directory's own API.
type directoryService struct {
	directory  *directory.Directory
	maxBatch   int
	drain      *drain.State // nil never drains
	log        *slog.Logger
	rules      validation
	renderings renderings
	replies    sync.Pool     // of *batchReply
	importing  chan struct{} // has an element while an import runs
	maxSpool   int64         // in bytes
}

func newDirectoryService(dir *directory.Directory, maxBatch int) *directoryService {
	return &directoryService{
		directory: dir, maxBatch: maxBatch, log: slog.New(slog.DiscardHandler),
		rules: newValidation(directoryDescriptor()),
		renderings: renderUsers(dir, "BatchGetUsersResponse.users", 1,
			func(dst []byte, user *directory.Record, epoch string) ([]byte, error) {
				return appendUserProto(dst, user, etagOf(epoch, user))
			},
			func(dst []byte, user *directory.Record, epoch string) []byte {
				return appendUserMessageJSON(dst, user, etagOf(epoch, user))
			}),
		importing: make(chan struct{}, 1),
	}
}

// handler is what rosterv1connect.NewDirectoryServiceHandler makes, except that most methods have replies
// that encode themselves.
func (s *directoryService) handler(options ...connect.HandlerOption) http.Handler {
	methods := directoryDescriptor().Methods()
	of := func(procedure string) connect.HandlerOption {
		method := methods.ByName(protoreflect.Name(path.Base(procedure)))
		own := []connect.HandlerOption{connect.WithSchema(method)}
		if options, _ := method.Options().(*descriptorpb.MethodOptions); options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS {
			own = append(own, connect.WithIdempotency(connect.IdempotencyNoSideEffects))
		}
		return connect.WithHandlerOptions(append(own, options...)...)
	}
	handlers := map[string]http.Handler{
		rosterv1connect.DirectoryServiceGetUserProcedure:          unary(rosterv1connect.DirectoryServiceGetUserProcedure, s.GetUser, of),
		rosterv1connect.DirectoryServiceBatchGetUsersProcedure:    unary(rosterv1connect.DirectoryServiceBatchGetUsersProcedure, s.BatchGetUsers, of),
		rosterv1connect.DirectoryServiceListUsersProcedure:        unary(rosterv1connect.DirectoryServiceListUsersProcedure, s.ListUsers, of),
		rosterv1connect.DirectoryServiceCreateUserProcedure:       unary(rosterv1connect.DirectoryServiceCreateUserProcedure, s.CreateUser, of),
		rosterv1connect.DirectoryServiceUpdateUserProcedure:       unary(rosterv1connect.DirectoryServiceUpdateUserProcedure, s.UpdateUser, of),
		rosterv1connect.DirectoryServiceDeleteUserProcedure:       unary(rosterv1connect.DirectoryServiceDeleteUserProcedure, s.DeleteUser, of),
		rosterv1connect.DirectoryServiceBatchUpdateUsersProcedure: unary(rosterv1connect.DirectoryServiceBatchUpdateUsersProcedure, s.BatchUpdateUsers, of),
		rosterv1connect.DirectoryServiceListChangesProcedure:      unary(rosterv1connect.DirectoryServiceListChangesProcedure, s.ListChanges, of),
		rosterv1connect.DirectoryServiceImportUsersProcedure: connect.NewClientStreamHandlerSimple(
			rosterv1connect.DirectoryServiceImportUsersProcedure, s.ImportUsers, of(rosterv1connect.DirectoryServiceImportUsersProcedure)),
		rosterv1connect.DirectoryServiceExportUsersProcedure: connect.NewServerStreamHandlerSimple(
			rosterv1connect.DirectoryServiceExportUsersProcedure, s.ExportUsers, of(rosterv1connect.DirectoryServiceExportUsersProcedure)),
		rosterv1connect.DirectoryServiceWatchUsersProcedure: connect.NewServerStreamHandlerSimple(
			rosterv1connect.DirectoryServiceWatchUsersProcedure, s.WatchUsers, of(rosterv1connect.DirectoryServiceWatchUsersProcedure)),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if handler, ok := handlers[r.URL.Path]; ok {
			handler.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	})
}

// unary is the handler of a unary method.
func unary[Request, Reply any](procedure string, method func(context.Context, *Request) (*Reply, error), of func(string) connect.HandlerOption) http.Handler {
	return connect.NewUnaryHandlerSimple(procedure, method, of(procedure))
}
