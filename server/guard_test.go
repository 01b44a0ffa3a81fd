package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/gen/go/apipb"
	"example.com/roster/server/api"
)

// Nothing of the frozen contract says that it is free of side effects, so no
// link and no prefetching browser may call it.
func TestMyServiceIsPOSTOnly(t *testing.T) {
	for _, route := range api.RoutesOf(apipb.File_api_proto.Services().ByName("MyService"), nil) {
		if route.SideEffectFree {
			t.Errorf("%s takes GET", route.Path)
		}
	}
}

// safeRoutes are the routes of a service with one method of each kind: /s/Read
// is declared free of side effects, /s/Write is not.
func safeRoutes(t *testing.T) []api.Route {
	t.Helper()
	method := func(name string, level descriptorpb.MethodOptions_IdempotencyLevel) *descriptorpb.MethodDescriptorProto {
		return &descriptorpb.MethodDescriptorProto{
			Name: &name, InputType: proto.String(".google.protobuf.Empty"), OutputType: proto.String(".google.protobuf.Empty"),
			Options: &descriptorpb.MethodOptions{IdempotencyLevel: &level},
		}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("s.proto"), Syntax: proto.String("proto3"), Dependency: []string{"google/protobuf/empty.proto"},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("s"), Method: []*descriptorpb.MethodDescriptorProto{
			method("Read", descriptorpb.MethodOptions_NO_SIDE_EFFECTS),
			method("Write", descriptorpb.MethodOptions_IDEMPOTENT),
		}}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	answer := func(context.Context, *emptypb.Empty) (*emptypb.Empty, error) { return &emptypb.Empty{}, nil }
	options := api.HandlerOptions(slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.Handle("/s/Read", connect.NewUnaryHandlerSimple("/s/Read", answer, options, connect.WithIdempotency(connect.IdempotencyNoSideEffects)))
	mux.Handle("/s/Write", connect.NewUnaryHandlerSimple("/s/Write", answer, options, connect.WithIdempotency(connect.IdempotencyIdempotent)))
	return api.RoutesOf(file.Services().ByName("s"), mux)
}

func TestGETIsForCallsWithoutSideEffects(t *testing.T) {
	mux := http.NewServeMux()
	for _, route := range safeRoutes(t) {
		mux.Handle(route.Path, guard(route, time.Second, newRefuser()))
	}
	server := httptest.NewServer(mux)
	defer server.Close()
	const query = "?connect=v1&encoding=json&message=%7B%7D"
	tests := []struct {
		method, path string
		status       int
		allow, want  string
	}{
		{"GET", "/s/Read" + query, 200, "", "{}"},
		{"POST", "/s/Read", 200, "", "{}"},
		{"GET", "/s/Read", 415, "", `encoding "" is not json or proto: a GET of /s/Read has its message in the query`},
		{"GET", "/s/Read?connect=v1&encoding=grpc&message=", 415, "", `encoding "grpc" is not json or proto`},
		{"GET", "/s/Read?connect=v1&encoding=json", 400, "", "missing message parameter"},
		{"PUT", "/s/Read" + query, 405, "GET, POST", "call it with POST"},
		{"HEAD", "/s/Read" + query, 405, "GET, POST", ""},
		{"POST", "/s/Write", 200, "", "{}"},
		{"GET", "/s/Write" + query, 405, "POST", "call it with POST"},
	}
	for _, test := range tests {
		request, _ := http.NewRequest(test.method, server.URL+test.path, strings.NewReader("{}"))
		if test.method == "GET" || test.method == "HEAD" {
			request, _ = http.NewRequest(test.method, server.URL+test.path, nil)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != test.status || response.Header.Get("Allow") != test.allow || !strings.Contains(string(body), test.want) {
			t.Errorf("%s %s: %d, Allow %q, %s\nwant %d, Allow %q, %s", test.method, test.path,
				response.StatusCode, response.Header.Get("Allow"), body, test.status, test.allow, test.want)
		}
	}
}

// A gRPC client shows what it does not know in a header as metadata of the call, so there is no Content-Length, which
// the engine adds to other replies that leave in one piece.
func TestOnlyRepliesWithoutGRPCStatusHaveALength(t *testing.T) {
	for _, standard := range []bool{false, true} {
		p := start(t, Config{StandardHTTP2: standard}, nil)
		ids, malformed := string(envelope(0, []byte("\x0a\x02\x01\x02"))), string(envelope(0, []byte("malformed")))
		for _, test := range []struct {
			path, contentType, body string
			hasLength               bool
		}{
			{"/MyService/User", "application/grpc", ids, false},
			{"/MyService/User", "application/grpc", malformed, false},
			{"/MyService/User", "application/grpc-web", malformed, false},
			{"/MyService/Nobody", "application/grpc", ids, standard},
			{"/MyService/User", "application/json", `{"userIDs":[1,2]}`, true},
			{"/MyService/User", "application/json", `{"userIDs":`, true},
		} {
			response, body := p.post(true, test.path, test.contentType, strings.NewReader(test.body))
			if length, ok := response.Header["Content-Length"]; ok != test.hasLength || ok && length[0] != fmt.Sprint(len(body)) {
				t.Errorf("engine std %v, %s, %s, %q: Content-Length %q of %d bytes", standard, test.path, test.contentType, test.body, length, len(body))
			}
		}
	}
}
