package service

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"

	"connectrpc.com/connect"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

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
	}, handlerOptions(config.Log, policies), connect.WithCompressMinBytes(math.MaxInt))
	return rpc.Mount{
		Service:  healthv1.File_grpc_health_v1_health_proto.Services().ByName("Health"),
		Handler:  uncompressed(handler),
		Policies: policies,
	}
}

// uncompressed prevents the compression of replies, and any header about it. A health reply is too
// short to be compressed, but its header would announce an encoding, that of the request at least, and
// grpcio 1.49 crashes when the health that its channel watches has such a header.
func uncompressed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range [...]string{"Accept-Encoding", "Connect-Accept-Encoding", "Grpc-Accept-Encoding"} {
			delete(r.Header, name)
		}
		if rpc.Compressed(r) {
			w = &unannounced{ResponseWriter: w}
		}
		next.ServeHTTP(w, r)
	})
}

// unannounced leaves out of a reply's header that its messages may be compressed. None is, since
// health's handlers compress nothing.
type unannounced struct{ http.ResponseWriter }

func (w *unannounced) remove() {
	delete(w.Header(), "Grpc-Encoding")
	delete(w.Header(), "Connect-Content-Encoding")
}

// WriteHeader implements http.ResponseWriter.
func (w *unannounced) WriteHeader(status int) {
	w.remove()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *unannounced) Write(p []byte) (int, error) {
	w.remove()
	return w.ResponseWriter.Write(p)
}

// Flush implements http.Flusher.
func (w *unannounced) Flush() {
	w.remove()
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap is for http.ResponseController.
func (w *unannounced) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// goAwayFirst is by how much a Watch delays NOT_SERVING once the port drains, so that GOAWAY
// arrives first. A client that hears NOT_SERVING and has no other server fails its calls. One that
// gets GOAWAY before opens another connection, perhaps to this server's successor on the same
// address, and loses no call.
const goAwayFirst = 100 * time.Millisecond

// health implements grpc.health.v1. It says whether the port serves, as a whole (the empty name)
// and for each service, to load balancers, probes, and clients that choose a server by it (gRFC
// A17).
//
// A service that needs the store is SERVING while the store answers, and one of another server (see
// package bridge) while that server does. The port as a whole is while its store answers, whatever other
// servers do; without a store, while any of its services can be answered. Once the port drains, nothing
// is. All of that is kept up to date elsewhere: a Check costs no query, and a Watch no goroutine besides
// its handler's.
type health struct {
	directory *directory.Directory // nil if the port has none
	drain     *drain.State
	table     func() *rpc.Table
}

var _ healthv1connect.HealthHandler = (*health)(nil)

// statusOf returns the status of a service in table, and a channel that is closed when the status
// of the store changes.
func (s *health) statusOf(table *rpc.Table, service string) (status healthv1.HealthCheckResponse_ServingStatus, changed <-chan struct{}) {
	upstream, mounted := rpc.Store, true // the port as a whole needs the store
	if service != "" {
		upstream, mounted = table.Upstream(service)
	}
	down := s.drain.Draining() || table.Down(service)
	if s.directory != nil {
		store := s.directory.Status()
		down = down || upstream == rpc.Store && store.Err != nil
		changed = store.Changed()
	} else if service == "" {
		down = down || nothingToAnswer(table)
	}
	switch {
	case !mounted:
		return healthv1.HealthCheckResponse_SERVICE_UNKNOWN, nil
	case down:
		return healthv1.HealthCheckResponse_NOT_SERVING, changed
	}
	return healthv1.HealthCheckResponse_SERVING, changed
}

// nothingToAnswer reports whether a port without a directory has nothing but services about itself, or
// others that are all down.
func nothingToAnswer(table *rpc.Table) bool {
	for _, service := range table.Services() {
		if !aboutThePort(service.ParentFile().Package()) && !table.Down(string(service.FullName())) {
			return false
		}
	}
	return true
}

// aboutThePort reports whether the services of a package, health and reflection, are about the others.
func aboutThePort(pkg protoreflect.FullName) bool {
	return pkg == "grpc.health.v1" || pkg == "grpc.reflection.v1" || pkg == "grpc.reflection.v1alpha"
}

// Check implements healthv1connect.HealthHandler.
func (s *health) Check(_ context.Context, request *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	status, _ := s.statusOf(s.table(), request.GetService())
	if status == healthv1.HealthCheckResponse_SERVICE_UNKNOWN {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf(
			"there is no service %.100q: List names the services, and the empty name is the server as a whole", request.GetService()))
	}
	return &healthv1.HealthCheckResponse{Status: status}, nil
}

// List implements healthv1connect.HealthHandler.
func (s *health) List(context.Context, *healthv1.HealthListRequest) (*healthv1.HealthListResponse, error) {
	table := s.table()
	names := append(names(table), "")
	statuses := make(map[string]*healthv1.HealthCheckResponse, len(names))
	for _, name := range names {
		status, _ := s.statusOf(table, name)
		statuses[name] = &healthv1.HealthCheckResponse{Status: status}
	}
	return &healthv1.HealthListResponse{Statuses: statuses}, nil
}

// maxWatchedName is how many bytes the name of a watched service may have. A service that does not
// exist may be watched too: it may be mounted later.
const maxWatchedName = 1000

// Watch implements healthv1connect.HealthHandler. Once the port drains it says NOT_SERVING, and
// when the port closes it ends with UNAVAILABLE. After any error but UNIMPLEMENTED a client watches
// again, on its next connection.
func (s *health) Watch(ctx context.Context, request *healthv1.HealthCheckRequest, stream *connect.ServerStream[healthv1.HealthCheckResponse]) error {
	service := request.GetService()
	if len(service) > maxWatchedName {
		return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
			"the name of the service has %d bytes, the maximum is %d (a fixed limit, no flag): List names the services", len(service), maxWatchedName))
	}
	proto.Reset(request) // free it, unknown fields included: a Watch may last for ever
	begun, closing := s.drain.Begun(), s.drain.Closing()
	if closed(closing) {
		// No status first: a client that has had one watches again at once, without a delay.
		return drain.Reconnect()
	}
	sent := healthv1.HealthCheckResponse_UNKNOWN
	for {
		table := s.table()
		status, changed := s.statusOf(table, service)
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
				continue // begun is closed as well: send NOT_SERVING first
			}
			return drain.Reconnect()
		}
	}
}

// closed reports whether a channel is closed.
func closed(channel <-chan struct{}) bool {
	select {
	case <-channel:
		return true
	default:
		return false
	}
}
