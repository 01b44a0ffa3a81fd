package rpc_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/server/rpc"
)

func TestTimeout(t *testing.T) {
	for _, test := range []struct {
		contentType, header, value string
		want                       time.Duration
		words                      string
	}{
		{"application/grpc", "Grpc-Timeout", "100m", 100 * time.Millisecond, ""},
		{"application/grpc-web", "Grpc-Timeout", "2S", 2 * time.Second, ""},
		{"application/grpc", "Grpc-Timeout", "99999999H", 0, ""}, // longer than a Duration
		{"application/grpc", "Grpc-Timeout", "soon", 0, "grpc-timeout: \"soon\" is not a deadline"},
		{"application/grpc", "Grpc-Timeout", "S", 0, "such as 1500m"},
		{"application/grpc", "Grpc-Timeout", "-1S", 0, "such as 1500m"},
		{"application/grpc", "Grpc-Timeout", "+1S", 0, "such as 1500m"},
		{"application/grpc", "Grpc-Timeout", "100", 0, "and a unit"},
		{"application/grpc", "Grpc-Timeout", "123456789m", 0, "up to 8 digits"},
		{"application/grpc", "Grpc-Timeout", "", 0, ""},
		{"application/grpc", "Connect-Timeout-Ms", "100", 0, ""},
		{"application/json", "Connect-Timeout-Ms", "100", 100 * time.Millisecond, ""},
		{"application/json", "Connect-Timeout-Ms", "1.5", 0, "connect-timeout-ms: \"1.5\" is not a deadline: send a whole number of milliseconds"},
		{"application/json", "Connect-Timeout-Ms", "99999999999", 0, "up to 10 digits"},
		{"application/json", "Grpc-Timeout", "1S", 0, ""},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("Content-Type", test.contentType)
		r.Header.Set(test.header, test.value)
		media, _ := rpc.RequestMediaType(r)
		if why := rpc.CheckTimeout(media, r); (why == nil) != (test.words == "") || why != nil && (why.Code() != connect.CodeInvalidArgument || !strings.Contains(why.Message(), test.words)) {
			t.Errorf("%+v: the error %v", test, why)
		}
		if got, ok := rpc.Timeout(r); got != test.want || ok != (test.want > 0) {
			t.Errorf("%+v: %v, %v", test, got, ok)
		}
	}
}
