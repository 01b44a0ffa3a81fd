package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
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
		{"a typo in the key", append(asJSON, "-d", `{"userIds":[1]}`, url+"/MyService/User"), `unknown field \"userIds\": do you mean \"userIDs\"?`},
		{"a GET without its message", []string{url + "/MyService/User"}, `encoding "" is not json or proto: a GET of /MyService/User has its message in the query, for example`},
		{"GET", []string{"-G", "-d", "connect=v1", "-d", "encoding=json", "--data-urlencode", `message={"userIDs":[1,2]}`, url + "/MyService/User"}, two + " 200"},
		{"GET of health", []string{url + "/MyService/Health?encoding=json&message=%7B%7D"}, "{} 200"},
		{"HEAD", []string{"-I", url + "/MyService/Health?encoding=json&message=%7B%7D"}, "no-store"},
		{"PUT", []string{"-X", "PUT", url + "/MyService/User"}, "/MyService/User is a remote procedure: call it with POST, for example\ncurl -H 'content-type: application/json'"},
		{"JSON with a parameter", []string{"-H", "content-type: application/json; v=1", "-d", `{"userIDs":[1,2]}`, url + "/MyService/User"}, two + " 200"},
		{"JSON with a byte order mark", append(asJSON, "--data-binary", "\uFEFF"+`{"userIDs":[1,2]}`, url+"/MyService/User"), two + " 200"},
		{"half a millisecond", append(asJSON, "-H", "connect-timeout-ms: 1.5", "-d", "{}", url+"/MyService/User"), `connect-timeout-ms: \"1.5\" is not a deadline: send a whole number of milliseconds`},
		{"no such procedure", append(asJSON, "-d", `{}`, url+"/MyService/Nope"), `{"code":"unimplemented","message":"no such procedure: this server has /MyService/Health, /MyService/User, /roster.v1.DirectoryService/GetUser, /roster.v1.DirectoryService/BatchGetUsers, `},
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

// The limits, as they look to a person who tries them with curl.
func TestCurlMeetsLimits(t *testing.T) {
	_, address := serve(t, "--rate-limit", "0.01", "--rate-burst", "14")
	headers := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(headers, []byte("x-long: "+strings.Repeat("v", 1e6)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, code, want string
		arguments        []string
	}{
		{"no deadline left", "504", "deadline_exceeded", []string{"-H", "connect-timeout-ms: 0"}},
		{"less than none", "400", "is not a deadline", []string{"-H", "connect-timeout-ms: -1"}},
		{"a century", "400", "3153600000000", []string{"-H", "connect-timeout-ms: 3153600000000"}},
		{"four months", "200", "success", []string{"-H", "connect-timeout-ms: 9999999999"}},
		{"no number", "400", "connect-timeout-ms: \\\"soon\\\" is not a deadline", []string{"-H", "connect-timeout-ms: soon"}},
		// The server may hang up on so much; over HTTP/1.1 it says why before. Curl itself sends no more.
		{"a header of a megabyte", "431", "431 Request Header Fields Too Large", []string{"-H", "@" + headers, "--http1.1"}},
		{"a header of a megabyte, HTTP/2", "", "", []string{"-H", "@" + headers, "--http2-prior-knowledge"}},
		{"and after it", "200", "success", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := run(t, exec.Command("curl", append([]string{"-sS", "--noproxy", "*", "--max-time", "20", "-w", " %{http_code}",
				"-H", "content-type: application/json", "-d", `{"userIDs":[1]}`, "http://" + address + "/MyService/User"}, test.arguments...)...))
			if test.code == "" {
				if got.code == 0 && strings.HasSuffix(got.stdout, " 200") {
					t.Errorf("it was answered: %s", got.stdout)
				}
				return
			}
			if !strings.HasSuffix(got.stdout, " "+test.code) || !strings.Contains(got.stdout, test.want) {
				t.Errorf("curl exited %d: %s%s\nwant %s and %s", got.code, got.stdout, got.stderr, test.code, test.want)
			}
		})
	}
	var last result
	for range 14 {
		last = run(t, exec.Command("curl", "-sS", "-i", "--noproxy", "*", "-w", " %{http_code}", "-H", "content-type: application/json",
			"-d", `{"userIDs":[1]}`, "http://"+address+"/MyService/User"))
	}
	if !strings.HasSuffix(last.stdout, " 429") || !strings.Contains(last.stdout, "--rate-limit") || !strings.Contains(last.stdout, "google.rpc.RetryInfo") ||
		!strings.Contains(strings.ToLower(last.stdout), "retry-after: 100\r") {
		t.Errorf("too often: %s%s", last.stdout, last.stderr)
	}
}

// The commands that answers suggest work as they are pasted, for every method and with a token.
func TestTheSuggestedCommandsWork(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens.json")
	token := createToken(t, tokens, "reader", "read")
	_, open := serve(t)
	_, closed := serve(t, "--tokens", tokens)
	methods := []string{"/MyService/User", "/MyService/Health", "/roster.v1.DirectoryService/BatchGetUsers", "/grpc.health.v1.Health/Check",
		"/grpc.health.v1.Health/List", "/grpc.health.v1.Health/Watch", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"}
	wrongs := map[string][]string{"another HTTP method": {"-X", "PUT"}, "a form": {"-d", "x=1"}, "a GET": {}}
	for name, wrong := range wrongs {
		for _, method := range methods {
			for _, address := range []string{open, closed} {
				t.Run(name+" "+method, func(t *testing.T) {
					arguments := append([]string{"-sS", "--noproxy", "*", "--max-time", "20"}, wrong...)
					if address == closed {
						arguments = append(arguments, "-H", "authorization: Bearer "+token)
					}
					said := run(t, exec.Command("curl", append(arguments, "http://"+address+method)...)).stdout
					_, suggested, _ := strings.Cut(said, "for example\n")
					if suggested == "" || strings.Contains(suggested, token) {
						t.Fatalf("it said %q", said)
					}
					pasted := strings.ReplaceAll(suggested, "curl", "curl -sS --noproxy '*' --max-time 1 --fail-with-body")
					command := exec.Command("sh", "-c", pasted)
					command.Env = append(os.Environ(), "ROSTER_TOKEN="+token)
					got := run(t, command)
					// A stream has an answer, and goes on until curl ends it.
					ended := got.code == 0 || strings.Contains(pasted, "connect+json") && got.code == 28 && got.stdout != ""
					if !ended || strings.Contains(got.stdout, "invalid_argument") || strings.Contains(got.stdout, "error") {
						t.Errorf("%s exited %d: %q %s", pasted, got.code, got.stdout, got.stderr)
					}
				})
			}
		}
	}
}

func TestLimitsThatAreNone(t *testing.T) {
	for _, test := range []struct{ flag, value, want string }{
		{"--max-deadline", "0", "--max-deadline 0s: must be more than 0"},
		{"--max-deadline", "-1s", "--max-deadline -1s: must be more than 0"},
		{"--max-concurrent-calls", "0", "--max-concurrent-calls 0: must be at least 1"},
		{"--rate-limit", "-1", "--rate-limit -1: must be 0, which is no limit, or more"},
		{"--rate-limit", "NaN", "--rate-limit NaN: must be 0, which is no limit, or more"},
		{"--rate-limit", "1e-9", "--rate-limit 1e-09: is less than a call in a quarter of an hour"},
		{"--rate-burst", "5", "--rate-burst 5: needs --rate-limit"},
	} {
		if got := roster(t, "serve", test.flag, test.value); got.code != 2 || !strings.Contains(got.stderr, test.want) {
			t.Errorf("%s %s: %d %s, want 2 and %s", test.flag, test.value, got.code, got.stderr, test.want)
		}
	}
}
