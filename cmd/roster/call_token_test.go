package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"example.com/roster/gen/go/apipb/apipbconnect"
)

// startShowing serves the contract and remembers the Authorization that came last.
func startShowing(t *testing.T) (url string, last *atomic.Value) {
	t.Helper()
	last = new(atomic.Value)
	mux := http.NewServeMux()
	mux.Handle(apipbconnect.NewMyServiceHandler(aFewUsers{}))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last.Store(r.Header.Get("Authorization"))
		mux.ServeHTTP(w, r)
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.URL, last
}

func TestGetAndHealthSendTheToken(t *testing.T) {
	url, last := startShowing(t)
	file := filepath.Join(t.TempDir(), "my.token")
	if err := os.WriteFile(file, []byte("roster_file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ROSTER_TOKEN", "roster_environment")
	for _, command := range []string{"get 1", "health"} {
		for flag, want := range map[string]string{
			"":                       "Bearer roster_environment",
			"--token roster_flag":    "Bearer roster_flag",
			"--token @" + file:       "Bearer roster_file",
			"--token= --output=json": "",
		} {
			args := strings.Fields(command + " --timeout 10s --server " + url + " " + flag)
			if code, _, stderr := roster(t, args...); code != 0 || last.Load() != want {
				t.Errorf("%v: exit code %d, sent %q, want %q; stderr %q", args, code, last.Load(), want, stderr)
			}
		}
	}
}

func TestTokensThatAreNotSent(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args   string
		code   int
		stderr string
	}{
		{"get 1 --token @/no/such/file", 1, "--token: open /no/such/file: no such file or directory"},
		{"get 1 --token @" + empty, 1, "--token: the file " + empty + " is empty"},
		{"get 1 --token roster_secret --server http://roster.example.com", 2, "the token would cross the network in the clear: use https://"},
		{"health --token roster_secret! --server http://localhost:1", 2, "the token has a character that no token has"},
	} {
		code, stdout, stderr := roster(t, strings.Fields(test.args)...)
		if code != test.code || stdout != "" || !strings.Contains(stderr, test.stderr) || strings.Contains(stderr, "secret") {
			t.Errorf("roster %s: exit code %d, stdout %q, stderr %q, want %d and %q", test.args, code, stdout, stderr, test.code, test.stderr)
		}
	}
}
