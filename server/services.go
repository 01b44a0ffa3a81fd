package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"example.com/roster/gen/go/grpc/health/v1/healthv1connect"
	"example.com/roster/server/api"
	"example.com/roster/server/drain"
	"example.com/roster/server/health"
)

// Reflection is for people and their tools, who ask and leave.
const (
	// maxReflections is how many calls of it may be open at a time.
	maxReflections = 100
	// reflectionIdle is how long one may be without a question.
	reflectionIdle = time.Minute
)

// standardServices returns the services that every gRPC server has: its health,
// and reflection, which tells what can be called. stored are the routes that
// need the store.
func standardServices(config Config, refuser refuser, stored, others []api.Route) []api.Route {
	options := api.HandlerOptions(config.Log)
	names := append(services(stored), services(others)...)
	names = append(names, healthv1connect.HealthName,
		grpcreflect.ReflectV1ServiceName, grpcreflect.ReflectV1AlphaServiceName)

	_, handler := healthv1connect.NewHealthHandler(health.New(health.Config{
		Directory:  config.Directory,
		Drain:      config.Drain,
		Stored:     services(stored),
		Others:     names,
		MaxWatches: config.MaxWatches,
	}), options)
	routes := api.RoutesOf(healthv1.File_grpc_health_v1_health_proto.Services().ByName("Health"), handler)
	for i := range routes {
		routes[i].Handler = uncompressed(handler)
		routes[i].Needs, routes[i].Vital = api.NeedsNothing, true
	}

	reflector := grpcreflect.NewStaticReflector(names...)
	slots := make(chan struct{}, maxReflections)
	for _, newHandler := range []func(*grpcreflect.Reflector, ...connect.HandlerOption) (string, http.Handler){
		grpcreflect.NewHandlerV1, grpcreflect.NewHandlerV1Alpha,
	} {
		path, handler := newHandler(reflector, options)
		routes = append(routes, api.Route{
			Path:          path + "ServerReflectionInfo",
			Handler:       boundReflection(handler, slots, config.Drain, refuser),
			ClientStreams: true,
			ServerStreams: true,
			Vital:         true,
		})
	}
	return routes
}

// uncompressed never compresses a reply. One of health has nothing to compress,
// yet would say that it might: grpcio of 2022 (1.49) crashes when a server that
// its channel watches does.
func uncompressed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Grpc-Accept-Encoding")
		next.ServeHTTP(w, r)
	})
}

// services names the services that routes belong to, each once.
func services(routes []api.Route) []string {
	var names []string
	for _, route := range routes {
		name, _, _ := strings.Cut(strings.TrimPrefix(route.Path, "/"), "/")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// boundReflection keeps calls of reflection within their bounds.
func boundReflection(next http.Handler, slots chan struct{}, state *drain.State, refuser refuser) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			refuser.refuse(w, r, connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
				"%d calls of reflection are open, the most this server takes (a fixed limit, no flag): call again later", maxReflections)))
			return
		}
		r.Body = questions{r.Body, http.NewResponseController(w), state}
		next.ServeHTTP(w, r)
	})
}

// questions is the body of a call of reflection: a read of it fails when no
// question comes for long.
type questions struct {
	io.ReadCloser
	control *http.ResponseController
	drain   *drain.State
}

// Read implements io.Reader.
func (q questions) Read(p []byte) (int, error) {
	// A server that cannot set one has timers of its own.
	_ = q.control.SetReadDeadline(time.Now().Add(reflectionIdle))
	select {
	case <-q.drain.Closing():
		return 0, drain.Reconnect() // endStreams' own deadline may just have gone
	default:
	}
	n, err := q.ReadCloser.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("no question for %v: call again", reflectionIdle))
	}
	return n, err
}
