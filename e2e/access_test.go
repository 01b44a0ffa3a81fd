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
		if entry.Level == "ERROR" && strings.Contains(entry.Msg, "the tokens that it had go on counting") && strings.Contains(entry.Error, "malformed") {
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
