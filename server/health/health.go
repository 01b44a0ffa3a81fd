// Package health answers grpc.health.v1: whether the port serves, as a whole
// ("") and service by service, to load balancers, probes, and clients that
// choose a server by it (gRFC A17).
//
// A service that needs the store is SERVING while the store answers. Once the
// port drains, none is. Both are known without asking: a Check costs no query,
// and a Watch no goroutine but its handler's.
//
//	service := health.New(health.Config{
//		Directory: dir, Drain: state,
//		Stored: []string{"MyService"}, Others: []string{"grpc.health.v1.Health"},
//	})
//	path, handler := healthv1connect.NewHealthHandler(service, options)
package health

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"example.com/roster/directory"
	"example.com/roster/gen/go/grpc/health/v1/healthv1connect"
	"example.com/roster/server/drain"
)

// Config says whose health it is.
type Config struct {
	// Directory knows whether the store answers.
	Directory *directory.Directory
	// Drain knows whether the port is on its way out.
	Drain *drain.State
	// Stored names the services that need the store, Others those that do not.
	// The port as a whole, "", needs it.
	Stored, Others []string
	// MaxWatches is how many calls of Watch may be open at a time.
	MaxWatches int
}

// goAwayFirst is how long a Watch waits with NOT_SERVING once the port drains.
// A client that hears it fails its calls, if it has no other server; one that
// is told first to leave the connection (GOAWAY) opens another, perhaps to this
// server's successor on the same address, and no call is lost.
const goAwayFirst = 100 * time.Millisecond

// Service implements healthv1connect.HealthHandler.
type Service struct {
	directory  *directory.Directory
	drain      *drain.State
	stored     map[string]bool // by service; true if it needs the store
	maxWatches int64
	watches    atomic.Int64
}

var _ healthv1connect.HealthHandler = (*Service)(nil)

// New returns the health of a port.
func New(config Config) *Service {
	s := &Service{
		directory:  config.Directory,
		drain:      config.Drain,
		stored:     map[string]bool{"": true},
		maxWatches: int64(config.MaxWatches),
	}
	for _, name := range config.Others {
		s.stored[name] = false
	}
	for _, name := range config.Stored {
		s.stored[name] = true
	}
	return s
}

// of is the status of a service, and what is closed when the store's changes.
func (s *Service) of(service string) (status healthv1.HealthCheckResponse_ServingStatus, changed <-chan struct{}) {
	stored, known := s.stored[service]
	store := s.directory.Status()
	switch {
	case !known:
		return healthv1.HealthCheckResponse_SERVICE_UNKNOWN, nil
	case s.drain.Draining(), stored && store.Err != nil:
		return healthv1.HealthCheckResponse_NOT_SERVING, store.Changed()
	}
	return healthv1.HealthCheckResponse_SERVING, store.Changed()
}

// Check implements healthv1connect.HealthHandler.
func (s *Service) Check(_ context.Context, request *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	status, _ := s.of(request.GetService())
	if status == healthv1.HealthCheckResponse_SERVICE_UNKNOWN {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf(
			"no service %.100q: List names those that there are, and the empty name is the server as a whole", request.GetService()))
	}
	return &healthv1.HealthCheckResponse{Status: status}, nil
}

// List implements healthv1connect.HealthHandler.
func (s *Service) List(context.Context, *healthv1.HealthListRequest) (*healthv1.HealthListResponse, error) {
	statuses := make(map[string]*healthv1.HealthCheckResponse, len(s.stored))
	for name := range s.stored {
		status, _ := s.of(name)
		statuses[name] = &healthv1.HealthCheckResponse{Status: status}
	}
	return &healthv1.HealthListResponse{Statuses: statuses}, nil
}

// maxWatched is how long the name of a service that is watched may be, in bytes.
// One that does not exist may be watched, in case it comes to.
const maxWatched = 1000

// Watch implements healthv1connect.HealthHandler. Once the port drains it says
// NOT_SERVING, and when the port closes it ends with UNAVAILABLE: after any end
// but UNIMPLEMENTED a client watches again, on its next connection.
func (s *Service) Watch(ctx context.Context, request *healthv1.HealthCheckRequest, stream *connect.ServerStream[healthv1.HealthCheckResponse]) error {
	defer s.watches.Add(-1)
	if s.watches.Add(1) > s.maxWatches {
		return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
			"%d watches of this server's health are open, the most it takes (--max-watches): use Check", s.maxWatches))
	}
	service := request.GetService()
	if len(service) > maxWatched {
		return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
			"the name of a service has %d bytes, to be watched it may have %d (a fixed limit, no flag): List names those that there are", len(service), maxWatched))
	}
	proto.Reset(request) // of what it does not know, too: a watch may last for ever
	begun, closing := s.drain.Begun(), s.drain.Closing()
	if over(closing) {
		// Not a word first: a client that heard one would come back at once.
		return drain.Reconnect()
	}
	sent := healthv1.HealthCheckResponse_UNKNOWN
	for {
		status, changed := s.of(service)
		if status != sent {
			if err := stream.Send(&healthv1.HealthCheckResponse{Status: status}); err != nil {
				return err
			}
			sent = status
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-begun:
			begun = nil
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(goAwayFirst):
			}
		case <-closing:
			if sent == healthv1.HealthCheckResponse_SERVING {
				continue // begun is ready, too
			}
			return drain.Reconnect()
		}
	}
}

func over(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
