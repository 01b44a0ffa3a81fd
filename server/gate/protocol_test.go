package gate

import (
	"crypto/tls"
	"net/http/httptest"
	"testing"

	"example.com/roster/server/rpc"
)

// A suggested command is pasted into a shell, so nothing of the request is in it that a shell reads.
func TestSuggestedCommands(t *testing.T) {
	unary := &rpc.Method{Path: "/s/Look", Policy: rpc.Policy{Example: `{"ids":[1]}`}}
	stream := &rpc.Method{Path: "/s/Follow", ServerStreams: true}
	both := &rpc.Method{Path: "/s/Talk", ServerStreams: true, ClientStreams: true}
	for _, test := range []struct {
		method      *rpc.Method
		host, token string
		tls         bool
		want        string
	}{
		{unary, "localhost:50051", "", false, `curl -H 'content-type: application/json' -d '{"ids":[1]}' 'http://localhost:50051/s/Look'`},
		{unary, "[::1]:50051", "", true, `curl -H 'content-type: application/json' -d '{"ids":[1]}' 'https://[::1]:50051/s/Look'`},
		{unary, "x'$(reboot)'", "", false, `curl -H 'content-type: application/json' -d '{"ids":[1]}' 'http://HOST/s/Look'`},
		{unary, "", "Bearer secret", false, `curl -H 'content-type: application/json' -H "authorization: Bearer $ROSTER_TOKEN" -d '{"ids":[1]}' 'http://HOST/s/Look'`},
		{stream, "h", "", false, `printf '\000\000\000\000\002{}' | curl -N -o - -H 'content-type: application/connect+json' --data-binary @- 'http://h/s/Follow'`},
		{both, "h", "", false, `printf '\000\000\000\000\002{}' | curl --http2-prior-knowledge -N -o - -H 'content-type: application/connect+json' --data-binary @- 'http://h/s/Talk'`},
		{both, "h", "", true, `printf '\000\000\000\000\002{}' | curl -N -o - -H 'content-type: application/connect+json' --data-binary @- 'https://h/s/Talk'`},
	} {
		r := httptest.NewRequest("PUT", "/", nil)
		r.Host, r.TLS = test.host, nil
		if test.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if test.token != "" {
			r.Header.Set("Authorization", test.token)
		}
		if got := tryPost(test.method, r); got != test.want {
			t.Errorf("got %s\nwant %s", got, test.want)
		}
	}
}
