package gate

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"example.com/roster/server/auth"
	"example.com/roster/server/rpc"
)

// A method that every caller may call is not wrapped.
func TestNoAccessControlCostsNothing(t *testing.T) {
	handler := http.NotFoundHandler()
	for _, test := range []struct {
		config AccessConfig
		role   rpc.Role
		wraps  bool
	}{
		{AccessConfig{}, rpc.Reader, false},
		{AccessConfig{Local: true}, rpc.Reader, false},
		{AccessConfig{Local: true}, rpc.Writer, true}, // it looks whether the caller is on this machine
		{AccessConfig{}, rpc.Writer, true},
		{AccessConfig{Tokens: func() *auth.Set { return nil }}, rpc.Reader, true},
		{AccessConfig{ClientCertificates: true}, rpc.Reader, true},
	} {
		got := newAccess(test.config, nil, nil).wrap(&rpc.Method{Policy: rpc.Policy{Role: test.role}}, handler)
		if wraps := fmt.Sprintf("%p", got) != fmt.Sprintf("%p", handler); wraps != test.wraps {
			t.Errorf("%+v, %+v: wrapped: %v", test.config, test.role, wraps)
		}
	}
}

func BenchmarkAccess(b *testing.B) {
	entries, _, secret, err := auth.NewToken(nil, "reader", auth.Read, time.Now(), time.Time{})
	if err != nil {
		b.Fatal(err)
	}
	all, err := auth.NewSet(entries)
	if err != nil {
		b.Fatal(err)
	}
	set := func() *auth.Set { return all }
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for name, config := range map[string]AccessConfig{"none": {Local: true}, "tokens": {Tokens: set}, "open reads": {Tokens: set, OpenReads: true}} {
		b.Run(name, func(b *testing.B) {
			handler := newAccess(config, nil, nil).wrap(&rpc.Method{Policy: rpc.Policy{Role: rpc.Reader}}, nothing)
			request := httptest.NewRequest("POST", "/MyService/User", nil)
			request.Header.Set("Content-Type", "application/grpc")
			if name == "tokens" {
				request.Header.Set("Authorization", "Bearer "+secret)
			}
			_, request = rpc.Of(request.WithContext(context.Background()))
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				handler.ServeHTTP(w, request)
			}
			if w.Code != 200 {
				b.Fatal(w.Code)
			}
		})
	}
}
