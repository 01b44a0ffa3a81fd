package service

import (
	"net/http"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/roster/server/rpc"
)

// Limits of reflection, which tools such as grpcurl call for a moment.
const (
	// maxReflections is how many calls of each version may be open at a time.
	maxReflections = 100
	// reflectionQuiet is how long an open call may be without a request.
	reflectionQuiet = time.Minute
)

// reflectionMounts mounts both versions of grpc.reflection, which describes what can be called.
func reflectionMounts(config Config) []rpc.Mount {
	files := &mountedFiles{table: config.Table}
	reflector := grpcreflect.NewReflector(namer(config.Table), grpcreflect.WithDescriptorResolver(files), grpcreflect.WithExtensionResolver(mountedExtensions{files}))
	mount := func(newHandler func(*grpcreflect.Reflector, ...connect.HandlerOption) (string, http.Handler),
		file protoreflect.FileDescriptor) rpc.Mount {
		policies := map[string]rpc.Policy{"ServerReflectionInfo": {
			Role: rpc.Reader, Vital: true, MaxStreams: maxReflections, MaxQuiet: reflectionQuiet, MaxMessage: smallMessage,
			Example: `{"listServices":""}`,
		}}
		_, handler := newHandler(reflector, handlerOptions(config.Log, policies))
		return rpc.Mount{Service: file.Services().ByName("ServerReflection"), Handler: handler, Policies: policies}
	}
	return []rpc.Mount{
		mount(grpcreflect.NewHandlerV1, reflectionv1.File_grpc_reflection_v1_reflection_proto),
		mount(grpcreflect.NewHandlerV1Alpha, reflectionv1alpha.File_grpc_reflection_v1alpha_reflection_proto),
	}
}

// namer is a grpcreflect.Namer of the services that the port serves at the moment.
type namer func() *rpc.Table

// Names implements grpcreflect.Namer.
func (table namer) Names() []string { return names(table()) }

// names returns the names of the services in a table.
func names(table *rpc.Table) []string {
	var names []string
	for _, service := range table.Services() {
		names = append(names, string(service.FullName()))
	}
	return names
}
