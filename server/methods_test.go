package server

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	rosterv1 "example.com/roster/gen/go/roster/v1"
)

// directoryMethods are the methods of DirectoryService, as its proto has them.
func directoryMethods() (methods []protoreflect.MethodDescriptor) {
	all := rosterv1.File_roster_v1_directory_proto.Services().ByName("DirectoryService").Methods()
	for i := range all.Len() {
		methods = append(methods, all.Get(i))
	}
	return methods
}

func procedure(method protoreflect.MethodDescriptor) string {
	return "/roster.v1.DirectoryService/" + string(method.Name())
}

// Pages of an allowed origin may call every method, with what its kind of call needs.
func TestPagesMayCallEveryMethodOfTheDirectory(t *testing.T) {
	_, p := users(t, Config{Origins: []string{appOrigin}})
	for _, method := range directoryMethods() {
		for _, http2 := range []bool{false, true} {
			const headers = "authorization,connect-protocol-version,connect-timeout-ms,content-type,grpc-timeout,x-grpc-web,x-user-agent"
			response, _ := p.preflight(http2, appOrigin, procedure(method), headers)
			h := response.Header
			if response.StatusCode != 204 || h.Get("Access-Control-Allow-Origin") != appOrigin || h.Get("Access-Control-Allow-Methods") != "POST" ||
				h.Get("Access-Control-Allow-Headers") != headers {
				t.Errorf("HTTP/2 %v, a preflight of %s: %d %v", http2, method.Name(), response.StatusCode, h)
			}
			if response, _ := p.preflight(http2, "https://evil.example", procedure(method), headers); response.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("HTTP/2 %v, a preflight of %s from elsewhere: %d %v", http2, method.Name(), response.StatusCode, response.Header)
			}
			if method.IsStreamingServer() { // a watch has no end
				continue
			}
			contentType, body := "application/json", "{}"
			if method.IsStreamingClient() {
				contentType, body = "application/connect+json", string(envelope(0, []byte("{}")))
			}
			call, text := p.ask(http2, "POST", procedure(method), body, "Origin", appOrigin, "Content-Type", contentType)
			if h := call.Header; h.Get("Access-Control-Allow-Origin") != appOrigin || !strings.Contains(h.Get("Access-Control-Expose-Headers"), "Grpc-Status") {
				t.Errorf("HTTP/2 %v, a call of %s: %d %v %s", http2, method.Name(), call.StatusCode, h, text)
			}
		}
	}
}

// Reflection tells of every method and message of the directory, as the proto has them.
func TestReflectionTellsOfTheDirectory(t *testing.T) {
	_, p := users(t, Config{})
	for name, options := range map[string][]connect.ClientOption{"gRPC": {connect.WithGRPC()}, "gRPC-Web": {connect.WithGRPCWeb()}, "Connect": nil} {
		stream := grpcreflect.NewClient(client(t, true), "http://"+p.address, options...).NewStream(t.Context())
		symbols := []protoreflect.FullName{"roster.v1.DirectoryService", "roster.v1.Change.Kind"}
		for _, method := range directoryMethods() {
			symbols = append(symbols, method.FullName(), method.Input().FullName(), method.Output().FullName())
		}
		want := protodesc.ToFileDescriptorProto(rosterv1.File_roster_v1_directory_proto)
		for _, symbol := range symbols {
			files, err := stream.FileContainingSymbol(symbol)
			if err != nil {
				t.Fatalf("%s, %s: %v", name, symbol, err)
			}
			if !slices.ContainsFunc(files, func(file *descriptorpb.FileDescriptorProto) bool { return proto.Equal(file, want) }) {
				t.Errorf("%s, %s: directory.proto is not among the files, or is another one", name, symbol)
			}
		}
		if _, err := stream.FileContainingSymbol("roster.v1.DirectoryService.Nope"); err == nil {
			t.Errorf("%s: there is a method Nope", name)
		}
		if _, err := stream.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Every unary method without side effects can be called by GET, and its reply has an ETag, which changes when the reply
// does. The others refuse a GET, and say how they are called.
func TestGETsOfTheDirectory(t *testing.T) {
	c, p := users(t, Config{})
	messages := map[protoreflect.Name]string{
		"GetUser": `{"id":1}`, "BatchGetUsers": `{"ids":[1,2]}`, "ListUsers": `{"filter":"name = \"a*\"","orderBy":"name","showTotal":true}`,
		"ListChanges": `{"fromRevision":"0"}`,
	}
	must[*rosterv1.User](t)(c.CreateUser(t.Context(), create(1, "Ann", "")))
	for _, method := range directoryMethods() {
		options, _ := method.Options().(*descriptorpb.MethodOptions)
		unary := !method.IsStreamingClient() && !method.IsStreamingServer()
		gettable := unary && options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS
		message, ok := messages[method.Name()]
		if ok != gettable {
			t.Errorf("%s: is it to be called by GET? %v, %v", method.Name(), ok, gettable)
		}
		for _, http2 := range []bool{false, true} {
			first, body := p.get(http2, "GET", procedure(method), message)
			if !gettable {
				if first.StatusCode != http.StatusMethodNotAllowed || first.Header.Get("Allow") != "POST" || first.Header.Get("ETag") != "" || !strings.Contains(body, "POST") {
					t.Errorf("HTTP/2 %v, %s: %d %v %s", http2, method.Name(), first.StatusCode, first.Header, body)
				}
				continue
			}
			tag := first.Header.Get("ETag")
			if first.StatusCode != 200 || !strings.Contains(body, `"Ann`) || tag == "" || first.Header.Get("Cache-Control") != "private, no-cache" {
				t.Errorf("HTTP/2 %v, %s: %d %v %s", http2, method.Name(), first.StatusCode, first.Header, body)
			}
			again, nothing := p.get(http2, "GET", procedure(method), message, "If-None-Match", tag)
			if again.StatusCode != http.StatusNotModified || nothing != "" || again.Header.Get("ETag") != tag {
				t.Errorf("HTTP/2 %v, %s again: %d %v %s", http2, method.Name(), again.StatusCode, again.Header, nothing)
			}
			must[*rosterv1.User](t)(c.UpdateUser(t.Context(), &rosterv1.UpdateUserRequest{User: &rosterv1.User{Id: 1, Name: "Anna" + tag[1:9]}}))
			changed, body := p.get(http2, "GET", procedure(method), message, "If-None-Match", tag)
			if changed.StatusCode != 200 || changed.Header.Get("ETag") == tag || !strings.Contains(body, "Anna"+tag[1:9]) {
				t.Errorf("HTTP/2 %v, %s after a change: %d %v %s", http2, method.Name(), changed.StatusCode, changed.Header, body)
			}
		}
	}
	for name, message := range map[string]string{"GetUser": `{"id":99}`, "ListUsers": `{"filter":"x"}`, "ListChanges": `{"fromRevision":"999"}`, "BatchGetUsers": `{"ids":[]}`} {
		if failed, body := p.get(true, "GET", "/roster.v1.DirectoryService/"+name, message); failed.StatusCode < 400 || failed.Header.Get("ETag") != "" || failed.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s, an error: %d %v %s", name, failed.StatusCode, failed.Header, body)
		}
	}
}
