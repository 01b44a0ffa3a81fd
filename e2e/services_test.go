package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/roster/client"
)

// grpcurl builds the version that conformance/go.mod pins.
func grpcurl(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "grpcurl")
	build := exec.Command("go", "build", "-o", program, "github.com/fullstorydev/grpcurl/cmd/grpcurl")
	build.Dir = filepath.Join(root, "conformance")
	if out, err := build.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v: %s", err, out)
		}
		t.Skipf("grpcurl cannot be built here: %s", out)
	}
	return program
}

// grpcurl knows nothing but what reflection tells it.
func TestGrpcurl(t *testing.T) {
	program := grpcurl(t)
	_, address := serve(t)
	call := func(arguments ...string) result {
		t.Helper()
		return run(t, exec.Command(program, append([]string{"-plaintext", "-max-time", "20"}, arguments...)...))
	}
	list := call(address, "list")
	services := strings.Fields(list.stdout)
	for _, want := range []string{"MyService", "roster.v1.DirectoryService", "grpc.health.v1.Health",
		"grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"} {
		if !slices.Contains(services, want) {
			t.Errorf("list has no %s: %s%s", want, list.stdout, list.stderr)
		}
	}
	for _, service := range services {
		if got := call(address, "describe", service); got.code != 0 || !strings.Contains(got.stdout, "is a service:") {
			t.Errorf("describe %s: exit %d: %s%s", service, got.code, got.stdout, got.stderr)
		}
	}
	tests := []struct {
		name      string
		arguments []string
		code      int
		want      []string
	}{
		{"a look-up", []string{"-d", `{"userIDs":[1]}`, address, "MyService/User"}, 0, []string{`"name": "Leila Dubois"`}},
		{"health", []string{address, "grpc.health.v1.Health/Check"}, 0, []string{`"status": "SERVING"`}},
		{"the directory's own API", []string{"-d", `{"ids":[2,99999]}`, address, "roster.v1.DirectoryService/BatchGetUsers"}, 0,
			[]string{`"name": "Ruth Chen"`, "99999"}},
		{"a rule that is broken", []string{address, "roster.v1.DirectoryService/BatchGetUsers"}, 64 + 3,
			[]string{"Code: InvalidArgument", "Message: ids: must contain at least 1 item(s), has 0", `"field": "ids"`, `"reason": "REPEATED_MIN_ITEMS"`}},
		{"the rules, described", []string{address, "describe", "roster.v1.BatchGetUsersRequest"}, 0, []string{"buf.validate.field", "max_items: 10000"}},
	}
	for _, test := range tests {
		got := call(test.arguments...)
		for _, want := range test.want {
			if got.code != test.code || !strings.Contains(got.stdout+got.stderr, want) {
				t.Errorf("%s: exit %d: %s%s\nwant %s", test.name, got.code, got.stdout, got.stderr, want)
			}
		}
	}
}

func TestBufCurl(t *testing.T) {
	_, address := serve(t)
	call := func(protocol, method, data string) result {
		t.Helper()
		command := exec.Command("go", "tool", "buf", "curl", "--protocol", protocol, "--http2-prior-knowledge",
			"--data", data, "http://"+address+"/"+method)
		command.Dir = root
		return run(t, command)
	}
	for _, protocol := range []string{"grpc", "grpcweb", "connect"} {
		if got := call(protocol, "MyService/User", `{"userIDs":[1]}`); got.code != 0 || !strings.Contains(got.stdout, "Leila Dubois") {
			t.Errorf("%s: exit %d: %s%s", protocol, got.code, got.stdout, got.stderr)
		}
		if got := call(protocol, "grpc.health.v1.Health/Check", `{}`); got.code != 0 || !strings.Contains(got.stdout, "SERVING") {
			t.Errorf("%s: exit %d: %s%s", protocol, got.code, got.stdout, got.stderr)
		}
		got := call(protocol, "roster.v1.DirectoryService/BatchGetUsers", `{}`)
		for _, want := range []string{"invalid_argument", "ids: must contain at least 1 item(s), has 0", "google.rpc.BadRequest"} {
			if got.code == 0 || !strings.Contains(got.stderr, want) {
				t.Errorf("%s: exit %d: %s%s\nwant %s", protocol, got.code, got.stdout, got.stderr, want)
			}
		}
	}
}

// A store that goes while it is served: what is in memory is answered, the rest
// is UNAVAILABLE, health says so, and all is well again when the store is back.
func TestTheStoreIsGoneWhileServing(t *testing.T) {
	users := filepath.Join(root, "examples", "users.csv")
	other := filepath.Join(t.TempDir(), "other.csv")
	write(t, other, "id,name,age,email\n1,Somebody Else,1,else@example.com\n2,Another,2,\n3,Third,3,\n")
	away := func(t *testing.T, store string) func() {
		rename(t, store, store+".away")
		return func() { rename(t, store+".away", store) }
	}
	tests := []struct {
		name string
		gone func(t *testing.T, store string) (back func())
		log  string
		then string // the name of user 3 when the store is back
	}{
		{"moved away and back", away, "is gone: put it back", "Maja"},
		{"its directory moved away and back", func(t *testing.T, store string) func() { return away(t, filepath.Dir(store)) }, "is gone: put it back", "Maja"},
		{"deleted, and restored from a backup", func(t *testing.T, store string) func() {
			if err := os.Remove(store); err != nil {
				t.Fatal(err)
			}
			return func() {
				backup := filepath.Join(t.TempDir(), "backup.db")
				if got := roster(t, "import", "--store", backup, other); got.code != 0 {
					t.Fatal(got.stderr)
				}
				rename(t, backup, store)
			}
		}, "is gone: put it back", "Third"},
		{"a directory in its place", func(t *testing.T, store string) func() {
			back := away(t, store)
			if err := os.Mkdir(store, 0o755); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := os.Remove(store); err != nil {
					t.Fatal(err)
				}
				back()
			}
		}, "is a directory", "Maja"},
		{"an empty file in its place", func(t *testing.T, store string) func() {
			back := away(t, store)
			write(t, store, "")
			return func() { os.Remove(store); back() }
		}, "this is an empty file", "Maja"},
		{"text in its place", func(t *testing.T, store string) func() {
			back := away(t, store)
			write(t, store, strings.Repeat("Remember the milk.\n", 1000))
			return func() { os.Remove(store); back() }
		}, "is not a SQLite database", "Maja"},
		{"its index locked by another program", func(t *testing.T, store string) func() {
			locker := start(t, exec.Command("python3", "-c", `
import fcntl, sys, time
index = open(sys.argv[1], "r+b")
fcntl.lockf(index, fcntl.LOCK_EX, 8, 120)  # all locks of SQLite's that come and go
print("locked", file=sys.stderr, flush=True)
time.sleep(600)
`, store+"-shm"))
			locker.line(func(line string) string { return line })
			return func() { locker.stop(os.Kill) }
		}, "the store does not answer", "Maja"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			store := filepath.Join(t.TempDir(), "data", "roster.db")
			if err := os.Mkdir(filepath.Dir(store), 0o755); err != nil {
				t.Fatal(err)
			}
			if got := roster(t, "import", "--store", store, users); got.code != 0 {
				t.Fatal(got.stderr)
			}
			server, address := serve(t, "--store", store)
			c, err := client.New(address, client.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if found, err := c.Users(t.Context(), []int32{1, 2}); err != nil || len(found) != 2 {
				t.Fatalf("%v, %v", found, err)
			}
			wantHealth(t, address, "SERVING")

			back := test.gone(t, store)
			wantHealth(t, address, "NOT_SERVING")
			if !strings.Contains(server.log(), test.log) {
				t.Errorf("the log does not say %q:\n%s", test.log, server.log())
			}
			if found, err := c.Users(t.Context(), []int32{1, 2, 1}); err != nil || len(found) != 3 {
				t.Errorf("what is in memory: %v, %v", found, err)
			}
			got := roster(t, "get", "1", "3", "--server", "http://"+address, "--timeout", "1s", "--output", "json")
			if got.code != 1 || !strings.Contains(got.stderr, "UNAVAILABLE: the user store does not answer: try again") || got.stdout != "" {
				t.Errorf("what is not in memory: exit %d: %s%s", got.code, got.stdout, got.stderr)
			}
			if got := roster(t, "health", "--server", "http://"+address, "--timeout", "5s"); got.code != 1 || !strings.Contains(got.stderr, "UNAVAILABLE") {
				t.Errorf("roster health: exit %d: %s%s", got.code, got.stdout, got.stderr)
			}

			back()
			wantHealth(t, address, "SERVING")
			if found, err := c.Users(t.Context(), []int32{3}); err != nil || len(found) != 1 || !strings.HasPrefix(found[0].Name, test.then) {
				t.Errorf("user 3, when the store is back: %v, %v", found, err)
			}
			if !strings.Contains(server.log(), "the store answers again") {
				t.Errorf("the log does not say that it is back:\n%s", server.log())
			}
			if code := server.stop(terminate); code != 0 {
				t.Errorf("exit %d", code)
			}
		})
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// wantHealth waits, as a load balancer does, for MyService and the server as a
// whole to be in a state.
func wantHealth(t *testing.T, address, state string) {
	t.Helper()
	for _, service := range []string{"", "MyService"} {
		deadline := time.Now().Add(30 * time.Second)
		for {
			got := run(t, exec.Command("curl", "-sS", "--noproxy", "*", "--max-time", "20", "-H", "content-type: application/json",
				"-d", `{"service":"`+service+`"}`, "http://"+address+"/grpc.health.v1.Health/Check"))
			var reply struct{ Status string }
			if err := json.Unmarshal([]byte(got.stdout), &reply); err != nil {
				t.Fatalf("%v: %s%s", err, got.stdout, got.stderr)
			}
			if reply.Status == state {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%q is %s for 30 s, want %s", service, reply.Status, state)
			}
		}
	}
}
