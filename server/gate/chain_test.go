package gate

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/roster/server/auth"
	"example.com/roster/server/rpc"
)

// The order of the gates, and why each stands where it does.
func TestTheOrderOfTheGates(t *testing.T) {
	want := []struct{ name, because string }{
		{"origins", "a preflight carries no token, so access would refuse it"},
		{"access", "a rate belongs to an identity, which access finds out"},
		{"rate", "a caller who calls too often must not use up the calls that all share"},
		{"shed", "a call that is refused needs no deadline"},
		{"deadline", "the body, the budget and the handler all wait for no longer than the deadline"},
		{"protocol", "the gates after it take it for granted that the request is an RPC of a known form"},
		{"streams", "a stream has no size and no end, so the gates after it leave it alone"},
		{"body", "the budget counts what arrives, and body bounds how long that may take"},
		{"budget", "only what is about to be answered is paid for"},
	}
	gates := New(Config{Log: slog.New(slog.DiscardHandler)}).Gates()
	for i, g := range gates {
		if i >= len(want) || g.Name != want[i].name {
			t.Fatalf("gate %d is %s: say in this test why it stands there", i, g.Name)
		}
	}
	if len(gates) != len(want) {
		t.Errorf("%d gates, want %d", len(gates), len(want))
	}
}

// tokenOf is a set with one token of a role, and the token.
func tokenOf(t *testing.T, role auth.Role) (func() *auth.Set, string) {
	t.Helper()
	entries, _, secret, err := auth.NewToken(nil, "someone", role, time.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := auth.NewSet(entries)
	if err != nil {
		t.Fatal(err)
	}
	return func() *auth.Set { return set }, secret
}

// call sends a request with a record through handler, and returns the record and the reply.
func call(handler http.Handler, r *http.Request) (*rpc.Call, *httptest.ResponseRecorder) {
	c, r := rpc.Of(r)
	defer c.End()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return c, w
}

func post(contentType string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/s/Call", strings.NewReader("{}"))
	r.Header.Set("Content-Type", contentType)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

// Where a behaviour shows the order, it is this one.
func TestTheOrderShows(t *testing.T) {
	set, secret := tokenOf(t, auth.Read)
	answered := 0
	method := &rpc.Method{Path: "/s/Call", Policy: rpc.Policy{Role: rpc.Reader}, Handler: http.HandlerFunc(
		func(http.ResponseWriter, *http.Request) { answered++ })}
	chain := New(Config{
		Origins:            OriginsConfig{Allowed: []string{"https://app.example.com"}},
		Access:             AccessConfig{Tokens: set},
		Rate:               RateConfig{PerSecond: 0.001, Burst: 2},
		MaxConcurrentCalls: 1,
		Log:                slog.New(slog.DiscardHandler),
	})
	handler := chain.Wrap(method)
	authorized := []string{"Authorization", "Bearer " + secret}
	status := func(r *http.Request) int {
		_, w := call(handler, r)
		return w.Code
	}

	preflight := httptest.NewRequest(http.MethodOptions, "/s/Call", nil)
	preflight.Header.Set("Origin", "https://app.example.com")
	preflight.Header.Set("Access-Control-Request-Method", "POST")
	if got := status(preflight); got != 204 {
		t.Errorf("origins before access: a preflight without a token gets %d, want 204", got)
	}
	if got := status(post("application/json")); got != 401 {
		t.Errorf("without a token: %d, want 401", got)
	}
	if got := status(post("application/json", authorized...)); got != 200 || answered != 1 {
		t.Errorf("access before rate: after a refusal, the caller's own first call gets %d, want 200", got)
	}
	if got := status(post("text/plain", authorized...)); got != 415 {
		t.Errorf("rate before protocol: a call of no RPC gets %d, want 415", got)
	}
	if got := status(post("text/plain", authorized...)); got != 429 {
		t.Errorf("rate before protocol: what is no RPC counts into the rate, but the third call gets %d, want 429", got)
	}
	method.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if got := status(post("application/json", authorized...)); got != 429 {
			t.Errorf("rate before shed: a caller over its rate gets %d while the port is full, want 429", got)
		}
	})
	full := New(Config{Access: AccessConfig{Tokens: set}, Rate: RateConfig{PerSecond: 0.001, Burst: 1}, MaxConcurrentCalls: 1,
		Log: slog.New(slog.DiscardHandler)})
	handler = full.Wrap(method)
	if got := status(post("application/json", authorized...)); got != 200 {
		t.Errorf("the call that fills the port gets %d, want 200", got)
	}
}

// Each gate refuses for the reasons that it declares, and for no others. Each reason is triggered here,
// with the gate alone between the request and a handler that runs inner, if it is given.
func TestEachGateDeclaresItsReasons(t *testing.T) {
	set, _ := tokenOf(t, auth.Read)
	_, stranger := tokenOf(t, auth.Read)
	reading, reader := tokenOf(t, auth.Read)
	preflight := httptest.NewRequest(http.MethodOptions, "/s/Call", nil)
	preflight.Header.Set("Origin", "https://elsewhere.example")
	preflight.Header.Set("Access-Control-Request-Method", "POST")
	long := func(ctx context.Context) *http.Request {
		return httptest.NewRequestWithContext(ctx, http.MethodGet, "/s/Call?encoding=json&message="+strings.Repeat("x", longRequest), nil)
	}
	late := func(ctx context.Context) *http.Request {
		c, r := rpc.Of(long(ctx))
		c.Limit(time.Now().Add(-time.Second))
		return r
	}
	connection := newBudget().connContext(t.Context())
	left, leave := context.WithCancel(connection)
	leave()

	type request struct {
		config Config
		method rpc.Method
		r      *http.Request
		inner  []*http.Request // sent while the first is being answered
	}
	unary := rpc.Method{Path: "/s/Call", Policy: rpc.Policy{Role: rpc.Reader}}
	writing := rpc.Method{Path: "/s/Call", Policy: rpc.Policy{Role: rpc.Writer}}
	stream := rpc.Method{Path: "/s/Call", Policy: rpc.Policy{Role: rpc.Reader, MaxStreams: 1}, ServerStreams: true}
	requests := map[string][]request{
		"origins": {{method: unary, r: preflight}},
		"access": {
			{Config{Access: AccessConfig{Tokens: set}}, unary, post("application/json"), nil},
			{Config{Access: AccessConfig{Tokens: set}}, unary, post("application/json", "Authorization", "Bearer "+stranger), nil},
			{Config{Access: AccessConfig{Tokens: reading}}, writing, post("application/json", "Authorization", "Bearer "+reader), nil},
			{Config{}, writing, post("application/json"), nil},
			{Config{Access: AccessConfig{Tokens: set, OpenReads: true}, Rate: RateConfig{PerSecond: 0.001, Burst: 1}}, unary, post("application/json"),
				[]*http.Request{post("application/json", "Authorization", "Bearer "+stranger), post("application/json", "Authorization", "Bearer "+stranger)}},
		},
		"rate":     {{Config{Rate: RateConfig{PerSecond: 0.001, Burst: 1}}, unary, post("application/json"), []*http.Request{post("application/json")}}},
		"shed":     {{Config{MaxConcurrentCalls: 1}, unary, post("application/json"), []*http.Request{post("application/json")}}},
		"deadline": {{Config{MaxDeadline: time.Second}, unary, post("application/json"), nil}},
		"protocol": {
			{Config{}, unary, httptest.NewRequest(http.MethodGet, "/s/Call", nil), nil},
			{Config{}, unary, post("text/plain"), nil},
			{Config{}, unary, post("application/grpc", "Grpc-Encoding", "br"), nil},
		},
		"streams": {{Config{}, stream, post("application/grpc"), []*http.Request{post("application/grpc")}}},
		"body":    {{Config{StallTimeout: time.Second}, unary, post("application/json"), nil}},
		"budget":  {{Config{}, unary, long(connection), []*http.Request{long(left), late(connection)}}},
	}
	all := make(map[rpc.Reason]bool)
	for i, g := range New(Config{Log: slog.New(slog.DiscardHandler)}).Gates() {
		seen := make(map[rpc.Reason]bool)
		for _, test := range requests[g.Name] {
			test.config.Log = slog.New(slog.DiscardHandler)
			inner := test.inner
			var handler http.Handler
			note := func(r *http.Request) {
				if c, _ := call(handler, r); c.Refused != "" {
					seen[c.Refused] = true
				}
			}
			handler = New(test.config).Gates()[i].Wrap(&test.method, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				now := inner
				inner = nil
				for _, r := range now {
					note(r)
				}
			}))
			note(test.r)
			if len(inner) > 0 {
				t.Errorf("%s: the first request did not reach the handler", g.Name)
			}
		}
		got, want := slices.Sorted(maps.Keys(seen)), slices.Sorted(slices.Values(g.Reasons))
		if !slices.Equal(got, want) {
			t.Errorf("%s refuses for %q, it declares %q", g.Name, got, want)
		}
		for _, reason := range g.Reasons {
			all[reason] = true
		}
	}
	if got, want := slices.Sorted(maps.Keys(all)), slices.Sorted(slices.Values(rpc.Reasons[:])); !slices.Equal(got, want) {
		t.Errorf("the gates declare %q, package rpc has %q", got, want)
	}
}
