package server

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"example.com/roster/gen/go/grpc/health/v1/healthv1connect"
	"example.com/roster/server/api"
	"example.com/roster/server/health"
)

// Reflection is for people and their tools, who ask and leave.
const (
	// maxReflections is how many calls of it may be open at a time.
	maxReflections = 100
	// reflectionQuiet is how long one may be without a question.
	reflectionQuiet = time.Minute
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
			Handler:       boundReflection(handler, slots, refuser),
			ClientStreams: true,
			MaxQuiet:      reflectionQuiet,
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

// boundReflection refuses calls of reflection when too many are open.
func boundReflection(next http.Handler, slots chan struct{}, refuser refuser) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			refuser.refuse(w, r, connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
				"%d calls of reflection are open, the most this server takes (a fixed limit, no flag): call again later", maxReflections)))
			return
		}
		next.ServeHTTP(w, r)
	})
}
