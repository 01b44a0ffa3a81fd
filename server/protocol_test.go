package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/server/rpc/rpctest"
	"example.com/roster/server/service"
)

// safeRoutes are a service with one method of each kind: /s/Read is declared free of side effects,
// /s/Write is not.
func safeRoutes() []rpctest.Route {
	answer := func(context.Context, *emptypb.Empty) (*emptypb.Empty, error) { return &emptypb.Empty{}, nil }
	options := service.HandlerOptions(slog.New(slog.DiscardHandler))
	return []rpctest.Route{
		{Path: "/s/Read", SideEffectFree: true,
			Handler: connect.NewUnaryHandlerSimple("/s/Read", answer, options, connect.WithIdempotency(connect.IdempotencyNoSideEffects))},
		{Path: "/s/Write",
			Handler: connect.NewUnaryHandlerSimple("/s/Write", answer, options, connect.WithIdempotency(connect.IdempotencyIdempotent))},
	}
}

func TestGETIsForCallsWithoutSideEffects(t *testing.T) {
	p := start(t, Config{}, nil, safeRoutes()...)
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
		{"PUT", "/s/Read" + query, 405, "GET, HEAD, POST", "call it with POST"},
		{"HEAD", "/s/Read" + query, 200, "", ""},
		{"HEAD", "/s/Read", 415, "", ""},
		{"HEAD", "/s/Write" + query, 405, "POST", ""},
		{"POST", "/s/Write", 200, "", "{}"},
		{"GET", "/s/Write" + query, 405, "POST", "call it with POST"},
	}
	for _, test := range tests {
		request, _ := http.NewRequest(test.method, "http://"+p.address+test.path, strings.NewReader("{}"))
		if test.method == "GET" || test.method == "HEAD" {
			request, _ = http.NewRequest(test.method, "http://"+p.address+test.path, nil)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := client(t, false).Do(request)
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

// Replies of gRPC have no Content-Length, which the engine adds to other replies that leave in one
// piece: a gRPC client would present it as metadata of the call.
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
