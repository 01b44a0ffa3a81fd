package service

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"example.com/roster/directory"
	"example.com/roster/gen/go/grpc/health/v1/healthv1connect"
	"example.com/roster/server/drain"
	"example.com/roster/server/rpc"
)

// healthMount mounts grpc.health.v1.
func healthMount(config Config) rpc.Mount {
	policies := map[string]rpc.Policy{
		"Check": {Role: rpc.Anyone, Vital: true, MaxMessage: smallMessage},
		"List":  {Role: rpc.Anyone, Vital: true, MaxMessage: smallMessage},
		"Watch": {Role: rpc.Anyone, Vital: true, MaxStreams: config.MaxWatches, StreamsFlag: "--max-watches", MaxMessage: smallMessage},
	}
	_, handler := healthv1connect.NewHealthHandler(&health{
		directory: config.Directory, drain: config.Drain, table: config.Table,
	}, handlerOptions(config.Log, policies))
	return rpc.Mount{
		Service:  healthv1.File_grpc_health_v1_health_proto.Services().ByName("Health"),
		Handler:  uncompressed(handler),
		Policies: policies,
	}
}

// uncompressed never compresses a reply. One of health has nothing to compress, yet would say that it
// might: grpcio of 2022 (1.49) crashes when a server that its channel watches does.
func uncompressed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Grpc-Accept-Encoding")
		next.ServeHTTP(w, r)
	})
}

// goAwayFirst is how long a Watch waits with NOT_SERVING once the port drains.
// A client that hears it fails its calls, if it has no other server; one that
// is told first to leave the connection (GOAWAY) opens another, perhaps to this
// server's successor on the same address, and no call is lost.
const goAwayFirst = 100 * time.Millisecond

// health answers grpc.health.v1: whether the port serves, as a whole ("") and service by service, to
// load balancers, probes, and clients that choose a server by it (gRFC A17).
//
// A service that needs the store is SERVING while the store answers. Once the port drains, none is.
// Both are known without asking: a Check costs no query, and a Watch no goroutine but its handler's.
type health struct {
	directory *directory.Directory
	drain     *drain.State
	table     func() *rpc.Table
}

var _ healthv1connect.HealthHandler = (*health)(nil)

// of is the status of a service by what is mounted at the moment, and what is closed when the store's
// changes.
func (s *health) of(table *rpc.Table, service string) (status healthv1.HealthCheckResponse_ServingStatus, changed <-chan struct{}) {
	upstream, mounted := rpc.Store, true // the port as a whole needs the store
	if service != "" {
		upstream, mounted = table.Upstream(service)
	}
	store := s.directory.Status()
	switch {
	case !mounted:
		return healthv1.HealthCheckResponse_SERVICE_UNKNOWN, nil
	case s.drain.Draining(), upstream == rpc.Store && store.Err != nil:
		return healthv1.HealthCheckResponse_NOT_SERVING, store.Changed()
	}
	return healthv1.HealthCheckResponse_SERVING, store.Changed()
}

// Check implements healthv1connect.HealthHandler.
func (s *health) Check(_ context.Context, request *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	status, _ := s.of(s.table(), request.GetService())
	if status == healthv1.HealthCheckResponse_SERVICE_UNKNOWN {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf(
			"no service %.100q: List names those that there are, and the empty name is the server as a whole", request.GetService()))
	}
	return &healthv1.HealthCheckResponse{Status: status}, nil
}

// List implements healthv1connect.HealthHandler.
func (s *health) List(context.Context, *healthv1.HealthListRequest) (*healthv1.HealthListResponse, error) {
	table := s.table()
	names := append(names(table), "")
	statuses := make(map[string]*healthv1.HealthCheckResponse, len(names))
	for _, name := range names {
		status, _ := s.of(table, name)
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
func (s *health) Watch(ctx context.Context, request *healthv1.HealthCheckRequest, stream *connect.ServerStream[healthv1.HealthCheckResponse]) error {
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
		table := s.table()
		status, changed := s.of(table, service)
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
		case <-table.Replaced():
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
