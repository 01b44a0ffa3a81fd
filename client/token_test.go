package client_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/client"
	"example.com/roster/gen/go/apipb"
	"example.com/roster/gen/go/apipb/apipbconnect"
)

func TestTheTokenGoesWithEveryCall(t *testing.T) {
	var mu sync.Mutex
	var sent []string
	p := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		sent = append(sent, strings.Join(r.Header["Authorization"], " and "))
		mu.Unlock()
		handler(service{}).ServeHTTP(w, r)
	}))
	for _, protocol := range []client.Protocol{client.GRPC, client.GRPCWeb, client.Connect} {
		for token, want := range map[string]string{"": "", "roster_abc": "Bearer roster_abc"} {
			c, err := client.New(p.url, client.Config{Protocol: protocol, Token: token})
			if err != nil {
				t.Fatal(err)
			}
			sent = nil
			if err := c.WaitReady(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := c.Users(t.Context(), []int32{1}); err != nil {
				t.Error(err)
			}
			if err := c.Health(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := apipbconnect.NewMyServiceClient(c.Endpoint()).Health(t.Context(), &emptypb.Empty{}); err != nil {
				t.Error(err)
			}
			c.Close()
			if !slices.Equal(sent, []string{want, want, want, want}) {
				t.Errorf("%v with %q: sent %q", protocol, token, sent)
			}
		}
	}
}

func TestATokenIsNotSentInTheClear(t *testing.T) {
	const clear = "the token would cross the network in the clear: use https://, or say that the network is encrypted by itself (Config.TokenInClear, --token-in-clear)"
	for _, test := range []struct {
		url, token string
		inClear    bool
		want       string
	}{
		{"http://localhost:50051", "t", false, ""},
		{"http://127.0.0.1:50051", "t", false, ""},
		{"http://127.9.9.9", "t", false, ""},
		{"http://[::1]:50051", "t", false, ""},
		{"http://roster.localhost", "t", false, ""},
		{"https://roster.example.com", "t", false, ""},
		{"http://roster.example.com", "", false, ""},
		{"http://roster.example.com", "t", true, ""},
		{"http://roster.example.com", "t", false, clear},
		{"roster.example.com:50051", "t", false, clear},
		{"http://10.0.0.5:50051", "t", false, clear},
		{"http://localhost.evil.example", "t", false, clear},
		{"http://127.0.0.1.evil.example", "t", false, clear},
		{"http://localhost", "secret\n", false, "the token has a character that no token has"},
		{"http://localhost", "se cret", false, "the token has a character that no token has"},
		{"http://localhost", "\"secret\"", false, "the token has a character that no token has"},
		{"http://localhost", "secrét", false, "the token has a character that no token has"},
	} {
		c, err := client.New(test.url, client.Config{Token: test.token, TokenInClear: test.inClear})
		if c != nil {
			c.Close()
		}
		if test.want == "" && err == nil {
			continue
		}
		if test.want == "" || err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "cret") || strings.Contains(err.Error(), "crét") {
			t.Errorf("%s, %q: %v, want %q", test.url, test.token, err, test.want)
		}
	}
}

func TestTheReasonOfARefusedToken(t *testing.T) {
	for code, want := range map[connect.Code]client.Reason{
		connect.CodeUnauthenticated:  client.ReasonUnauthenticated,
		connect.CodePermissionDenied: client.ReasonPermissionDenied,
	} {
		refuse := func(context.Context) error { return connect.NewError(code, errors.New("as the server says")) }
		p := serveHTTP(t, handler(service{health: refuse,
			user: func(ctx context.Context, _ []int32) (*apipb.UserReply, error) { return nil, refuse(ctx) }}))
		for _, protocol := range []client.Protocol{client.GRPC, client.GRPCWeb, client.Connect} {
			c, err := client.New(p.url, client.Config{Protocol: protocol, Token: "roster_secret"})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Users(t.Context(), []int32{1})
			failure := expect(t, err, want, code)
			expectText(t, err, "as the server says")
			if failure.Attempts != 1 || strings.Contains(err.Error(), "secret") {
				t.Errorf("%d attempts, %v", failure.Attempts, err)
			}
			// WaitReady fails at once, since waiting would not help.
			expect(t, c.WaitReady(t.Context()), want, code)
			c.Close()
		}
	}
}
