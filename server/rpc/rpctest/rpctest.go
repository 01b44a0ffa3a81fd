// Package rpctest makes services for tests of the port: procedures at any path, without a proto.
//
//	mounts := rpctest.Mounts(t, rpctest.Route{Path: "/s/Fails", Handler: handler})
package rpctest

import (
	"cmp"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/server/rpc"
)

// A Route is one procedure.
type Route struct {
	Path           string // "/s/Fails"
	Handler        http.Handler
	ClientStreams  bool
	ServerStreams  bool
	SideEffectFree bool
	// Policy is that of the method. Unlike elsewhere it has defaults: the role Reader, and 10,000 open
	// calls of a streaming method.
	Policy rpc.Policy
}

// Mounts returns the services of routes.
func Mounts(t testing.TB, routes ...Route) []rpc.Mount {
	t.Helper()
	_ = emptypb.Empty{} // registers the file that the services import
	var names []string
	services := make(map[string][]Route)
	for _, route := range routes {
		service, _, _ := strings.Cut(strings.TrimPrefix(route.Path, "/"), "/")
		if services[service] == nil {
			names = append(names, service)
		}
		services[service] = append(services[service], route)
	}
	var mounts []rpc.Mount
	for _, name := range names {
		mounts = append(mounts, mount(t, name, services[name]))
	}
	return mounts
}

func mount(t testing.TB, name string, routes []Route) rpc.Mount {
	t.Helper()
	service := &descriptorpb.ServiceDescriptorProto{}
	file := &descriptorpb.FileDescriptorProto{
		Name:       proto.String(name + ".rpctest.proto"),
		Syntax:     proto.String("proto3"),
		Dependency: []string{"google/protobuf/empty.proto"},
		Service:    []*descriptorpb.ServiceDescriptorProto{service},
	}
	if dot := strings.LastIndex(name, "."); dot >= 0 {
		file.Package = proto.String(name[:dot])
	}
	service.Name = proto.String(name[strings.LastIndex(name, ".")+1:])
	handlers, policies := make(map[string]http.Handler), make(map[string]rpc.Policy)
	for _, route := range routes {
		method := route.Path[strings.LastIndex(route.Path, "/")+1:]
		options := &descriptorpb.MethodOptions{}
		if route.SideEffectFree {
			options.IdempotencyLevel = descriptorpb.MethodOptions_NO_SIDE_EFFECTS.Enum()
		}
		service.Method = append(service.Method, &descriptorpb.MethodDescriptorProto{
			Name:            proto.String(method),
			InputType:       proto.String(".google.protobuf.Empty"),
			OutputType:      proto.String(".google.protobuf.Empty"),
			ClientStreaming: proto.Bool(route.ClientStreams),
			ServerStreaming: proto.Bool(route.ServerStreams),
			Options:         options,
		})
		policy := route.Policy
		policy.Role = cmp.Or(policy.Role, rpc.Reader)
		if route.ClientStreams || route.ServerStreams {
			policy.MaxStreams = cmp.Or(policy.MaxStreams, 10_000)
		}
		handlers[route.Path], policies[method] = route.Handler, policy
	}
	descriptor, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatalf("a service for the routes of %s: %v", name, err)
	}
	return rpc.Mount{
		Service:  descriptor.Services().Get(0),
		Handler:  http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handlers[r.URL.Path].ServeHTTP(w, r) }),
		Policies: policies,
	}
}
