package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/roster/server/auth"
)

func TestTokenCreateListRevoke(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.json")
	t.Setenv("ROSTER_TOKENS", file)
	code, secret, stderr := roster(t, "token", "create", "--role", "read", "--name", "dashboard")
	if code != 0 || !regexp.MustCompile(`^roster_[0-9A-Za-z]{49}\n$`).MatchString(secret) ||
		!regexp.MustCompile(`^token "dashboard" with the role read \([0-9a-f]{8}\), shown this once:\n$`).MatchString(stderr) {
		t.Fatalf("exit code %d, stdout %q, stderr %q", code, secret, stderr)
	}
	if content, err := os.ReadFile(file); err != nil || strings.Contains(string(content), strings.TrimSpace(secret)[10:]) {
		t.Errorf("the file has the token (%v): %s", err, content)
	}
	code, stdout, stderr := roster(t, "token", "create", "--role", "write", "--name", "import", "--expires", "90d", "--output", "json")
	var made struct {
		ID, Name, Role, Token string
		Expires               time.Time
	}
	if err := json.Unmarshal([]byte(stdout), &made); code != 0 || err != nil || stderr != "" {
		t.Fatalf("exit code %d, %v, stdout %q, stderr %q", code, err, stdout, stderr)
	}
	if left := time.Until(made.Expires); made.Role != "write" || left < 89*24*time.Hour || left > 90*24*time.Hour {
		t.Errorf("role %s, good for %v", made.Role, left)
	}
	if code, stdout, stderr = roster(t, "token", "create", "--role", "write", "--certificate", "billing.example.com"); code != 0 || stdout != "" ||
		!strings.Contains(stderr, `certificate "billing.example.com" has the role write`) {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}

	entries, err := auth.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	set, err := auth.NewSet(entries)
	if err != nil {
		t.Fatal(err)
	}
	for secret, role := range map[string]auth.Role{strings.TrimSpace(secret): auth.Read, made.Token: auth.Write} {
		if entry, err := set.Token(secret, time.Now()); err != nil || entry.Role != role {
			t.Errorf("%v, %v, want the role %v", entry, err, role)
		}
	}

	code, stdout, _ = roster(t, "token", "list")
	lines := strings.Split(stdout, "\n")
	if code != 0 || len(lines) != 5 || !strings.HasPrefix(lines[0], "ID        NAME                 ROLE   CREATED") ||
		!strings.Contains(lines[1], "dashboard            read") || !strings.Contains(lines[1], "never") || !strings.HasPrefix(lines[2], made.ID+"  import") {
		t.Errorf("exit code %d, stdout\n%s", code, stdout)
	}
	var listed []map[string]any
	if _, stdout, _ = roster(t, "token", "list", "--output", "json"); json.Unmarshal([]byte(stdout), &listed) != nil || len(listed) != 3 ||
		listed[2]["certificate"] != "billing.example.com" || listed[0]["token"] != nil || listed[0]["sha256"] != nil {
		t.Errorf("stdout %s", stdout)
	}

	for nameOrID, name := range map[string]string{"dashboard": "dashboard", made.ID: "import"} {
		if code, stdout, stderr = roster(t, "token", "revoke", nameOrID); code != 0 || stdout != "" || !strings.Contains(stderr, `"`+name+`" (`) {
			t.Errorf("revoke %s: exit code %d, stdout %q, stderr %q", nameOrID, code, stdout, stderr)
		}
	}
	if _, stdout, _ = roster(t, "token", "list", "--output", "json"); json.Unmarshal([]byte(stdout), &listed) != nil || len(listed) != 1 {
		t.Errorf("left: %s", stdout)
	}
	if code, stdout, _ = roster(t, "__complete", "token", "revoke", ""); code != 0 || !strings.HasPrefix(stdout, "billing.example.com\n") {
		t.Errorf("completion: exit code %d, %q", code, stdout)
	}
}

func TestWrongUsageOfToken(t *testing.T) {
	for _, test := range []struct{ args, stderr string }{
		{"token create --role read --name a", "name the token file: --tokens FILE, or ROSTER_TOKENS in the environment"},
		{"token list", "name the token file"},
		{"token revoke a", "name the token file"},
		{"token revoke --tokens f", "revoke takes one NAME or ID, got 0"},
		{"token revoke --tokens f a b", "revoke takes one NAME or ID, got 2"},
		{"token list --tokens f a", "takes no arguments"},
		{"token make", `no command "make"`},
		{"token create --tokens f --name a", `--role "": want read or write`},
		{"token create --tokens f --name a --role admin", `--role "admin": want read or write`},
		{"token create --tokens f --role read", "say who the token is for: --name NAME"},
		{"token create --tokens f --role read --name a --expires soon", `--expires "soon": want days or a duration, such as 90d or 12h`},
		{"token create --tokens f --role read --name a --expires 0d", `--expires "0d": must be more than 0`},
		{"token create --tokens f --role read --name a --expires -1h", "must be more than 0"},
		{"token create --tokens f --role read --name a --expires 36501d", "is over a century: leave --expires out"},
		{"token create --tokens f --role read --name a --expires 99999999999999999999d", "want days or a duration"},
	} {
		code, stdout, stderr := roster(t, strings.Fields(test.args)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, test.stderr) {
			t.Errorf("roster %s: exit code %d, stdout %q, stderr %q, want 2 and %q", test.args, code, stdout, stderr, test.stderr)
		}
	}
}

func TestTokenSaysWhatIsWrongWithTheFile(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open.json")
	if err := os.WriteFile(open, []byte(`{"version":1,"tokens":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(t.TempDir(), "none.json")
	for _, test := range []struct{ args, stderr string }{
		{"token list --tokens " + none, "there is no token file " + none + ": create it with roster token create"},
		{"token revoke a --tokens " + none, "there is no token file"},
		{"token list --tokens " + open, "every user of this machine has access to it (mode 0644): run chmod o= " + open},
		{"token create --role read --name a --tokens " + open, "run chmod o= " + open},
	} {
		code, stdout, stderr := roster(t, strings.Fields(test.args)...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, test.stderr) {
			t.Errorf("roster %s: exit code %d, stdout %q, stderr %q, want 1 and %q", test.args, code, stdout, stderr, test.stderr)
		}
	}
	if code, _, stderr := roster(t, "token", "create", "--role", "read", "--name", "a", "--tokens", none); code != 0 {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	if code, _, stderr := roster(t, "token", "create", "--role", "write", "--name", "a", "--tokens", none); code != 1 || !strings.Contains(stderr, "choose another name, or revoke that one") {
		t.Errorf("the same name again: exit code %d, stderr %q", code, stderr)
	}
}
