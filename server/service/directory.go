package service

import (
	"context"

	"connectrpc.com/connect"

	"example.com/roster/directory"
	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/gen/go/roster/v1/rosterv1connect"
	"example.com/roster/server/rpc"
)

// directoryMount mounts the directory's own API.
func directoryMount(config Config) rpc.Mount {
	descriptor := rosterv1.File_roster_v1_directory_proto.Services().ByName("DirectoryService")
	policies := map[string]rpc.Policy{"BatchGetUsers": lookUp(config.MaxBatch)}
	_, handler := rosterv1connect.NewDirectoryServiceHandler(&directoryService{config.Directory, config.MaxBatch},
		handlerOptions(config.Log, policies), connect.WithInterceptors(newValidation(descriptor)))
	return rpc.Mount{
		Service:  descriptor,
		Handler:  handler,
		Policies: policies,
	}
}

// directoryService is the directory's own API.
type directoryService struct {
	directory *directory.Directory
	maxBatch  int
}

// BatchGetUsers implements rosterv1connect.DirectoryServiceHandler.
func (s *directoryService) BatchGetUsers(ctx context.Context, request *rosterv1.BatchGetUsersRequest) (*rosterv1.BatchGetUsersResponse, error) {
	if err := checkBatch(len(request.GetIds()), s.maxBatch); err != nil {
		return nil, err
	}
	ids := firsts(request.GetIds())
	found, err := s.directory.Users(ctx, ids)
	if err != nil {
		return nil, err
	}
	response := &rosterv1.BatchGetUsersResponse{Users: make([]*rosterv1.User, len(found))}
	users := make([]rosterv1.User, len(found))
	// The users found are in the order of the ids, so what is not the next of
	// them is unknown.
	next := 0
	for _, id := range ids {
		if next == len(found) || found[next].ID != id {
			response.UnknownIds = append(response.UnknownIds, id)
			continue
		}
		user := &users[next]
		user.Id, user.Name, user.Age, user.Email = id, found[next].Name, found[next].Age, found[next].Email
		response.Users[next] = user
		next++
	}
	return response, checkMessage(ctx, response)
}

// firsts returns ids without repeats, in the order in which each came first.
func firsts(ids []int32) []int32 {
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
