package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

func TestCurl(t *testing.T) {
	_, address := serve(t)
	const two = `{"message":"success","data":[{"name":"Leila Dubois","age":37,"email":"leila.dubois@example.com"},` +
		`{"name":"Ruth Chen","age":43,"email":"ruth.chen@example.com"}]}`
	url := "http://" + address
	asJSON := []string{"-H", "content-type: application/json"}
	tests := []struct {
		name      string
		arguments []string
		want      string
	}{
		{"two users", append(asJSON, "-d", `{"userIDs":[1,2]}`, url+"/MyService/User"), two + " 200"},
		{"nobody", append(asJSON, "-d", `{"userIDs":[99999]}`, url+"/MyService/User"), `{"message":"success","data":[]} 200`},
		{"health", append(asJSON, "-d", `{}`, url+"/MyService/Health"), "{} 200"},
		{"compressed reply", append(asJSON, "--compressed", "-d", `{"userIDs":[1,2]}`, url+"/MyService/User"), two + " 200"},
		{"without the header", []string{"-d", `{"userIDs":[1,2]}`, url + "/MyService/User"}, `content-type "application/x-www-form-urlencoded" is not one of application/json, application/proto`},
		{"a typo in the key", append(asJSON, "-d", `{"userIds":[1]}`, url+"/MyService/User"), `unknown field \"userIds\"`},
		{"GET", []string{url + "/MyService/User"}, "/MyService/User is a remote procedure: call it with POST, for example\ncurl -H 'content-type: application/json'"},
		{"no such procedure", append(asJSON, "-d", `{}`, url+"/MyService/Nope"), `{"code":"unimplemented","message":"no such procedure: this server has /MyService/Health, /MyService/User, /roster.v1.DirectoryService/BatchGetUsers, /grpc.health.v1.Health/Check, `},
		{"an upgrade to h2c", append(asJSON, "--http2", "-d", `{"userIDs":[1,2]}`, url+"/MyService/User"), two + " 200"},
		{"the page", []string{url + "/"}, "<title>Roster"},
	}
	for _, version := range []struct{ flag, number string }{{"--http1.1", "1.1"}, {"--http2-prior-knowledge", "2"}} {
		for _, test := range tests {
			t.Run(test.name+" "+version.flag, func(t *testing.T) {
				arguments := []string{"-sS", "--noproxy", "*", "--max-time", "20", "-w", ` %{http_code} HTTP/%{http_version}`}
				expected := version.number
				if test.name == "an upgrade to h2c" {
					expected = "1.1" // the offer is ignored (RFC 9113 §3.1)
				} else {
					arguments = append(arguments, version.flag)
				}
				got := run(t, exec.Command("curl", append(arguments, test.arguments...)...))
				if got.code != 0 || !strings.Contains(got.stdout, test.want) || !strings.HasSuffix(got.stdout, "HTTP/"+expected) {
					t.Errorf("curl exited %d: %s%s\nwant %s", got.code, got.stdout, got.stderr, test.want)
				}
			})
		}
	}
}
