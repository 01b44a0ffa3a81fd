package e2e

import (
	"encoding/json"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"example.com/roster/client"
)

// pythonServer starts the Python peer on the sample users.
func pythonServer(t *testing.T) (p *process, address string) {
	t.Helper()
	venv := need(t, "ROSTER_E2E_NEWEST")
	p = start(t, exec.Command(filepath.Join(venv, "bin", "roster-peer"), "serve",
		"--address", "127.0.0.1:0", "--users", filepath.Join(root, "examples", "users.csv")))
	return p, p.line(findAddress)
}

var addressPattern = regexp.MustCompile(`127\.0\.0\.1:[1-9]\d*`)

func findAddress(line string) string { return addressPattern.FindString(line) }

// `roster get` and `roster health` over all protocols against Roster, and over
// gRPC against the Python peer.
func TestCommandLine(t *testing.T) {
	_, ours := serve(t)
	_, theirs := pythonServer(t)
	users := sample(t)
	targets := []struct{ address, protocol string }{
		{ours, "grpc"}, {ours, "grpcweb"}, {ours, "connect"}, {theirs, "grpc"},
	}
	for _, target := range targets {
		t.Run(target.protocol+" "+target.address, func(t *testing.T) {
			flags := []string{"--server", "http://" + target.address, "--protocol", target.protocol, "--timeout", "20s"}
			got := roster(t, append([]string{"get", "2", "1", "2", "99999", "--output", "json"}, flags...)...)
			var found []user
			if err := json.Unmarshal([]byte(got.stdout), &found); err != nil || got.code != 0 {
				t.Fatalf("exit %d: %v: %s%s", got.code, err, got.stdout, got.stderr)
			}
			if want := []user{users[2], users[1], users[2]}; !slices.Equal(found, want) {
				t.Errorf("got %v, want %v", found, want)
			}
			unknown := "3 of 4 ids found\n"
			if target.address == ours { // which has BatchGetUsers
				unknown = "3 of 4 ids found; not found: 99999\n"
			}
			if got.stderr != unknown {
				t.Errorf("it says %q, want %q", got.stderr, unknown)
			}
			if none := roster(t, append([]string{"get", "99998-99999"}, flags...)...); none.code != 1 || !strings.Contains(none.stderr, "not found: 99998, 99999") {
				t.Errorf("exit %d, want 1: %s%s", none.code, none.stdout, none.stderr)
			}
			table := roster(t, append([]string{"get", "1"}, flags...)...)
			if table.code != 0 || !strings.Contains(table.stdout, "Leila Dubois") || !strings.Contains(strings.ToLower(table.stdout), "email") {
				t.Errorf("exit %d: %s%s", table.code, table.stdout, table.stderr)
			}
			if health := roster(t, append([]string{"health"}, flags...)...); health.code != 0 {
				t.Errorf("exit %d: %s%s", health.code, health.stdout, health.stderr)
			}
		})
	}
}

func TestGoClientAgainstThePythonServer(t *testing.T) {
	server, address := pythonServer(t)
	c, err := client.New(address, client.Config{Gzip: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids := make([]int32, 3000)
	for i := range ids {
		ids[i] = int32(i % 300)
	}
	for range 20 {
		if users, err := c.Users(t.Context(), ids); err != nil || len(users) != 2990 {
			t.Fatalf("%d users, %v", len(users), err)
		}
	}
	if code := server.stop(terminate); code != 0 {
		t.Errorf("the Python server exited %d: %s", code, server.log())
	}
}

// A Python server compresses with deflate as often as with gzip: the client offers both.
func TestGoClientAgainstAPythonServerThatDeflates(t *testing.T) {
	venv := need(t, "ROSTER_E2E_NEWEST")
	for _, compression := range []string{"Deflate", "Gzip"} {
		command := exec.Command(filepath.Join(venv, "bin", "python"), "-c", `
import sys
from concurrent import futures
import grpc, api_pb2, api_pb2_grpc

class Service(api_pb2_grpc.MyServiceServicer):
    def User(self, request, context):
        user = api_pb2.User(name="Ann", age=30, email="ann@example.com")
        return api_pb2.UserReply(message="success", data=[user] * len(request.userIDs))

server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)], compression=grpc.Compression.`+compression+`)
api_pb2_grpc.add_MyServiceServicer_to_server(Service(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"127.0.0.1:{port}", file=sys.stderr, flush=True)
server.wait_for_termination()
`)
		address, received := countingProxy(t, start(t, command).line(findAddress))
		c, err := client.New(address, client.Config{})
		if err != nil {
			t.Fatal(err)
		}
		users, err := c.Users(t.Context(), make([]int32, 10_000))
		if err != nil || len(users) != 10_000 || users[9_999].Email != "ann@example.com" {
			t.Errorf("%s: %d users, %v", compression, len(users), err)
		}
		c.Close()
		if n := received.Load(); n > 20_000 { // 260 KB as they are
			t.Errorf("%s: %d bytes came, so they were not compressed", compression, n)
		}
	}
}

// countingProxy passes connections on to address, and counts the bytes that come back.
func countingProxy(t *testing.T, address string) (proxy string, received *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	received = new(atomic.Int64)
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", address)
			if err != nil {
				near.Close()
				return
			}
			go func() { _, _ = io.Copy(far, near); far.Close() }()
			go func() { _, _ = io.Copy(io.MultiWriter(near, counter{received}), far); near.Close() }()
		}
	}()
	return listener.Addr().String(), received
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// A servicer that returns None: grpcio answers INTERNAL, and the client says
// what that means.
func TestAPythonServerWhoseHealthReturnsNone(t *testing.T) {
	venv := need(t, "ROSTER_E2E_NEWEST")
	command := exec.Command(filepath.Join(venv, "bin", "python"), "-c", `
import sys
from concurrent import futures
import grpc, api_pb2, api_pb2_grpc

class Forgetful(api_pb2_grpc.MyServiceServicer):
    def Health(self, request, context):
        pass
    def User(self, request, context):
        return api_pb2.UserReply(message="success", data=[api_pb2.User(name="Ada", age=36)])

server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
api_pb2_grpc.add_MyServiceServicer_to_server(Forgetful(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"127.0.0.1:{port}", file=sys.stderr, flush=True)
server.wait_for_termination()
`)
	address := start(t, command).line(findAddress)
	got := roster(t, "health", "--server", "http://"+address, "--timeout", "20s")
	if got.code != 1 || !strings.Contains(got.stderr, address) || !strings.Contains(got.stderr, "None") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
	if got := roster(t, "get", "1", "--server", "http://"+address, "--timeout", "20s"); got.code != 0 {
		t.Errorf("get: exit %d: %s", got.code, got.stderr)
	}
}

// What is wrong with an address is said in words.
func TestCommandLineDiagnosis(t *testing.T) {
	_, address := serve(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for server, want := range map[string]string{
		"http://" + closed.Addr().String():  "nothing listens",
		"https://" + address:                "TLS",
		"http://" + silent.Addr().String():  "time",
		"ftp://" + address:                  "ftp",
		"http://no-such-host.invalid:50051": "no-such-host.invalid",
	} {
		got := roster(t, "health", "--server", server, "--timeout", "2s")
		if got.code == 0 || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: exit %d, want %q in %s", server, got.code, want, got.stderr)
		}
	}
}
