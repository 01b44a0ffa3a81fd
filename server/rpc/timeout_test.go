package rpc_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"example.com/roster/server/rpc"
)

func TestTimeout(t *testing.T) {
	for _, test := range []struct {
		contentType, header, value string
		want                       time.Duration
	}{
		{"application/grpc", "Grpc-Timeout", "100m", 100 * time.Millisecond},
		{"application/grpc-web", "Grpc-Timeout", "2S", 2 * time.Second},
		{"application/grpc", "Grpc-Timeout", "99999999H", 0}, // longer than a Duration
		{"application/grpc", "Grpc-Timeout", "soon", 0},
		{"application/grpc", "Grpc-Timeout", "S", 0},
		{"application/grpc", "Grpc-Timeout", "-1S", 0},
		{"application/grpc", "Grpc-Timeout", "", 0},
		{"application/grpc", "Connect-Timeout-Ms", "100", 0},
		{"application/json", "Connect-Timeout-Ms", "100", 100 * time.Millisecond},
		{"application/json", "Connect-Timeout-Ms", "1.5", 0},
		{"application/json", "Connect-Timeout-Ms", "99999999999", 0},
		{"application/json", "Grpc-Timeout", "1S", 0},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("Content-Type", test.contentType)
		r.Header.Set(test.header, test.value)
		if got, ok := rpc.Timeout(r); got != test.want || ok != (test.want > 0) {
			t.Errorf("%+v: %v, %v", test, got, ok)
		}
	}
}
