package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/roster/client"
)

// createToken adds a token to a file with the real command.
func createToken(t *testing.T, file, name, role string, more ...string) string {
	t.Helper()
	got := roster(t, append([]string{"token", "create", "--tokens", file, "--name", name, "--role", role}, more...)...)
	if got.code != 0 || !strings.HasPrefix(got.stdout, "roster_") {
		t.Fatalf("roster token create: exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
	return strings.TrimSpace(got.stdout)
}

func TestCurlWithTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.json")
	token := createToken(t, file, "curl", "read")
	_, address := serve(t, "--tokens", file)
	for _, test := range []struct{ header, want string }{
		{"", `{"code":"unauthenticated","message":"this call needs a token of the role read in the header`},
		{"authorization: Bearer " + token, `"Leila Dubois"`},
		{"authorization: Bearer " + token[:len(token)-1], `or was mistyped or cut`},
		{"authorization: Basic cm9vdDpyb290", `the authorization header is not of the form`},
	} {
		for _, version := range []string{"--http1.1", "--http2-prior-knowledge"} {
			arguments := []string{"-sS", "--noproxy", "*", "--max-time", "20", version, "-H", "content-type: application/json"}
			if test.header != "" {
				arguments = append(arguments, "-H", test.header)
			}
			got := run(t, exec.Command("curl", append(arguments, "-d", `{"userIDs":[1]}`, "http://"+address+"/MyService/User")...))
			if got.code != 0 || !strings.Contains(got.stdout, test.want) {
				t.Errorf("%s %.30s: exit %d: %s%s", version, test.header, got.code, got.stdout, got.stderr)
			}
		}
	}
	health := run(t, exec.Command("curl", "-sS", "--noproxy", "*", "--max-time", "20", "-H", "content-type: application/json", "-d", "{}", "http://"+address+"/MyService/Health"))
	if health.stdout != "{}" {
		t.Errorf("health without a token: %s%s", health.stdout, health.stderr)
	}
}

// Tokens come, go and break while one connection stays open.
func TestTokensFollowTheirFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.json")
	first := createToken(t, file, "first", "read")
	server, address := serve(t, "--tokens", file)

	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	connections := 0
	status := func(token string) int {
		t.Helper()
		trace := &httptrace.ClientTrace{ConnectStart: func(string, string) { connections++ }}
		request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "POST",
			"http://"+address+"/MyService/User", strings.NewReader(`{"userIDs":[1]}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	// until asks until the answer is want: within about a second on a machine
	// that has one to spare.
	until := func(what, token string, want int) {
		t.Helper()
		began := time.Now()
		for status(token) != want {
			if time.Since(began) > 20*time.Second {
				t.Fatalf("%s: still %d after %v, want %d", what, status(token), time.Since(began), want)
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Logf("%s: %d after %v", what, want, time.Since(began).Round(time.Millisecond))
	}

	until("the first token", first, 200)
	second := createToken(t, file, "second", "write")
	until("a token created while it serves", second, 200)
	if got := roster(t, "token", "revoke", "--tokens", file, "first"); got.code != 0 {
		t.Fatal(got.stderr)
	}
	until("a revoked token", first, 401)
	if got := status(second); got != 200 {
		t.Errorf("the other token: %d", got)
	}
	short := createToken(t, file, "short", "read", "--expires", "1h")
	until("a token that will expire", short, 200)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	past := regexp.MustCompile(`"expires": "\d+`).ReplaceAll(content, []byte(`"expires": "2001`))
	if err := os.WriteFile(file, past, 0o600); err != nil {
		t.Fatal(err)
	}
	until("a token that has expired", short, 401)

	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	server.line(func(line string) string {
		var entry struct{ Level, Msg, Error string }
		json.Unmarshal([]byte(line), &entry)
		if entry.Level == "ERROR" && strings.Contains(entry.Msg, "its previous tokens stay valid") && strings.Contains(entry.Error, "malformed") {
			return line
		}
		return ""
	})
	if got := status(second); got != 200 {
		t.Errorf("with a broken file: %d", got)
	}
	if connections != 1 {
		t.Errorf("it took %d connections", connections)
	}
	for _, token := range []string{first, second, short} {
		if strings.Contains(server.log(), token[20:]) {
			t.Errorf("the log has a token:\n%s", server.log())
		}
	}
	if code := server.stop(terminate); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestReadsStayOpenIfAsked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.json")
	token := createToken(t, file, "a", "read")
	_, address := serve(t, "--tokens", file, "--open-reads")
	for header, want := range map[string]int{"": 200, "Bearer " + token: 200, "Bearer x": 401} {
		request, err := http.NewRequest("POST", "http://"+address+"/MyService/User", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		if header != "" {
			request.Header.Set("Authorization", header)
		}
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%.10q: %d, want %d", header, response.StatusCode, want)
		}
	}
}

func TestGoAndTheCommandsWithTokens(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "tokens.json")
	token := createToken(t, file, "reader", "read")
	kept := write(t, filepath.Join(folder, "reader.token"), token+"\n")
	server, address := serve(t, "--tokens", file)
	for _, protocol := range []client.Protocol{client.GRPC, client.GRPCWeb, client.Connect} {
		caller, err := client.New("http://"+address, client.Config{Protocol: protocol, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		defer caller.Close()
		if err := caller.WaitReady(t.Context()); err != nil {
			t.Errorf("%v: %v", protocol, err)
		}
		if users, err := caller.Users(t.Context(), []int32{1}); err != nil || len(users) != 1 || users[0].Name != "Leila Dubois" {
			t.Errorf("%v: %v, %v", protocol, users, err)
		}
		command := []string{"get", "1", "--server", "http://" + address, "--protocol", protocol.String(), "--timeout", "20s"}
		for _, test := range []struct {
			arguments []string
			code      int
			want      string
		}{
			{[]string{"--token", token}, 0, "Leila Dubois"},
			{[]string{"--token", "@" + kept}, 0, "Leila Dubois"},
			{nil, 1, "the server could not authenticate the call [UNAUTHENTICATED: this call needs a token of the role read"},
			{[]string{"--token", token + "x"}, 1, "the server could not authenticate the call [UNAUTHENTICATED: what was sent is not a token of Roster, or was mistyped or cut"},
		} {
			got := roster(t, append(command, test.arguments...)...)
			if got.code != test.code || !strings.Contains(got.stdout+got.stderr, test.want) || strings.Contains(got.stderr, token[20:]) {
				t.Errorf("%v %.12v: exit %d: %s%s", protocol, test.arguments, got.code, got.stdout, got.stderr)
			}
		}
	}
	health := []string{"health", "--server", "http://" + address, "--timeout", "20s"}
	if got := roster(t, health...); got.code != 0 {
		t.Errorf("health without a token: exit %d: %s", got.code, got.stderr)
	}
	if got := roster(t, append(health, "--token", token+"x")...); got.code != 1 || !strings.Contains(got.stderr, "mistyped or cut") {
		t.Errorf("health with a wrong token: exit %d: %s", got.code, got.stderr)
	}
	if strings.Contains(server.log(), token[20:]) || !strings.Contains(server.log(), `"identity":"reader"`) {
		t.Errorf("logged %s", server.log())
	}
}

// A certificate counts for a token; a token besides counts in its place.
func TestCertificatesAndTokens(t *testing.T) {
	c := newCredentials(t)
	file := c.file("tokens.json")
	token := createToken(t, file, "reader", "read")
	if got := roster(t, "token", "create", "--tokens", file, "--role", "write", "--certificate", "bob", "--name", "bob's laptop"); got.code != 0 {
		t.Fatal(got.stderr)
	}
	for _, engine := range []string{"fast", "std"} {
		p, url := serveTLS(t, c, "--tls-client-ca", c.file("ca.pem"), "--tokens", file, "--http2", engine)
		for _, protocol := range []string{"grpc", "grpcweb", "connect"} {
			get := append([]string{"get", "1", "--server", url, "--protocol", protocol, "--timeout", "20s", "--ca", c.file("ca.pem")}, c.show("bob")...)
			for name, more := range map[string][]string{"bob's laptop": nil, "reader": {"--token", token}} {
				if got := roster(t, append(get, more...)...); got.code != 0 || !strings.Contains(got.stdout, "Leila Dubois") {
					t.Errorf("%s, %s: exit %d: %s%s", engine, name, got.code, got.stdout, got.stderr)
				}
				p.line(func(line string) string {
					if strings.Contains(line, `"identity":"`+name+`"`) {
						return line
					}
					return ""
				})
			}
			if got := roster(t, append(get, "--token", "roster_x")...); got.code != 1 || !strings.Contains(got.stderr, "UNAUTHENTICATED") {
				t.Errorf("%s: a wrong token besides: exit %d: %s%s", engine, got.code, got.stdout, got.stderr)
			}
		}
	}
}
