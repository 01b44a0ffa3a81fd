package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/gen/go/roster/v1/rosterv1connect"
)

// shortHistory is a directory at revision 50, whose history begins after 40.
type shortHistory struct {
	rosterv1connect.UnimplementedDirectoryServiceHandler
	mu    sync.Mutex
	asked []int64
}

func (*shortHistory) ListUsers(context.Context, *rosterv1.ListUsersRequest) (*rosterv1.ListUsersResponse, error) {
	return &rosterv1.ListUsersResponse{Revision: 50, Epoch: "e"}, nil
}

func (s *shortHistory) ListChanges(_ context.Context, r *rosterv1.ListChangesRequest) (*rosterv1.ListChangesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.GetFromRevision())
	if r.GetFromRevision() < 40 {
		return nil, connect.NewError(connect.CodeOutOfRange, errors.New("no longer kept"))
	}
	reply := &rosterv1.ListChangesResponse{Revision: 50, Epoch: "e", OldestRevision: 40}
	for revision := r.GetFromRevision() + 1; revision <= 50; revision++ {
		reply.Changes = append(reply.Changes, &rosterv1.Change{Kind: rosterv1.Change_KIND_DELETED, Id: int32(revision), Revision: revision})
	}
	return reply, nil
}

// The log asks where the history begins, once.
func TestTheLogBeginsWhereTheHistoryDoes(t *testing.T) {
	for last, want := range map[string][]int64{"100": {50, 40}, "3": {50, 47}} {
		service := new(shortHistory)
		url := startHandler[rosterv1connect.DirectoryServiceHandler](t, service, rosterv1connect.NewDirectoryServiceHandler)
		code, stdout, stderr := roster(t, "log", "--last", last, "--timeout", "30s", "--server", url)
		if lines := strings.Count(stdout, "\n"); code != 0 || int64(lines) != 1+50-want[1] {
			t.Errorf("--last %s: exit code %d, %d lines, stderr %q", last, code, lines, stderr)
		}
		if !slices.Equal(service.asked, want) {
			t.Errorf("--last %s: asked for changes after %d, want %d", last, service.asked, want)
		}
	}
}
