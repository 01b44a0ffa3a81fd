// Package api is the RPC handlers of Roster: what each call answers, over
// whichever protocol it came, and which code each error has. Ports,
// connections and HTTP are package server's.
//
//	mux := http.NewServeMux()
//	for _, route := range api.Routes(api.Config{Directory: dir, MaxBatch: 10_000, Log: log}) {
//		mux.Handle(route.Path, route.Handler)
//	}
package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/directory"
	"example.com/roster/gen/go/apipb"
	"example.com/roster/gen/go/apipb/apipbconnect"
	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/gen/go/roster/v1/rosterv1connect"
)

// compressMinBytes is what a reply must have to be worth compressing: one that
// fits a network packet is not.
const compressMinBytes = 1024

// Config is what the handlers need.
type Config struct {
	Directory *directory.Directory
	// MaxBatch is how many ids one call may have.
	MaxBatch int
	// Log gets the errors that callers are not shown.
	Log *slog.Logger
}

// A Route is one procedure of a service.
type Route struct {
	Path    string // "/MyService/User"
	Handler http.Handler
	// ClientStreams: a call may send any number of messages. MaxQuiet is how long
	// it may send none, 0 for ever.
	ClientStreams bool
	MaxQuiet      time.Duration
	// ServerStreams: a reply may have any number of messages, and so take any
	// time.
	ServerStreams bool
	// SideEffectFree: a call changes nothing, so Connect's GET may make it too.
	SideEffectFree bool
	// Needs is what a caller must be allowed.
	Needs Need
	// Vital: it tells of the server rather than of users, so it is answered
	// however many other calls there are.
	Vital bool
}

// Need is what a caller must be allowed to make a call.
type Need uint8

// The needs.
const (
	NeedsRead    Need = iota // to look users up
	NeedsWrite               // to change them
	NeedsNothing             // for what probes ask, and tells of no user
)

// Routes returns the handlers of every service of Roster.
func Routes(config Config) []Route {
	options := HandlerOptions(config.Log)
	handler := newHandler(&myService{directory: config.Directory, maxBatch: config.MaxBatch}, options)
	frozen := RoutesOf(apipb.File_api_proto.Services().ByName("MyService"), handler)
	for i := range frozen {
		if frozen[i].Path == apipbconnect.MyServiceHealthProcedure {
			frozen[i].Needs, frozen[i].Vital = NeedsNothing, true
		}
	}
	own := rosterv1.File_roster_v1_directory_proto.Services().ByName("DirectoryService")
	_, ours := rosterv1connect.NewDirectoryServiceHandler(&directoryService{config.Directory, config.MaxBatch},
		options, connect.WithInterceptors(newValidation(own)))
	return slices.Concat(frozen, RoutesOf(own, ours))
}

// RoutesOf returns a route for each method of a service.
func RoutesOf(service protoreflect.ServiceDescriptor, handler http.Handler) []Route {
	var routes []Route
	methods := service.Methods()
	for i := range methods.Len() {
		method := methods.Get(i)
		options, _ := method.Options().(*descriptorpb.MethodOptions)
		routes = append(routes, Route{
			Path:           fmt.Sprintf("/%s/%s", service.FullName(), method.Name()),
			Handler:        handler,
			ClientStreams:  method.IsStreamingClient(),
			ServerStreams:  method.IsStreamingServer(),
			SideEffectFree: options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS,
		})
	}
	return routes
}

// HandlerOptions is what all handlers of the port share: limits, codecs, and
// what becomes of errors and panics.
func HandlerOptions(log *slog.Logger) connect.HandlerOption {
	return connect.WithHandlerOptions(
		connect.WithReadMaxBytes(MaxMessageBytes),
		connect.WithSendMaxBytes(MaxMessageBytes),
		connect.WithCompressMinBytes(compressMinBytes),
		gzipCompression(),
		codecs(),
		connect.WithInterceptors(newErrorInterceptor(log)),
	)
}

// myService is the frozen contract.
type myService struct {
	directory *directory.Directory
	maxBatch  int
	replies   sync.Pool // of *userReply
}

// Health answers when the store does.
func (s *myService) Health(ctx context.Context, _ *emptypb.Empty) (*emptypb.Empty, error) {
	if err := s.directory.Health(ctx); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}
