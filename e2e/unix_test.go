package e2e

import (
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/server/tlsfile/certtest"
)

// serveUnix starts a server on a Unix socket.
func serveUnix(t *testing.T, address string, arguments ...string) *process {
	t.Helper()
	store := filepath.Join(t.TempDir(), "roster.db")
	p := start(t, exec.Command(binary, append([]string{"serve", "--sample", "--addr", address, "--store", store, "--log-format", "json"}, arguments...)...))
	p.line(servingAt)
	return p
}

// shortFolder is a folder whose name leaves room for that of a socket.
func shortFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "r-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	return folder
}

// grpcio, grpc-go, curl and Roster itself call a Unix socket.
func TestUnixSockets(t *testing.T) {
	python := filepath.Join(need(t, "ROSTER_E2E_NEWEST"), "bin", "python")
	for name, address := range map[string]string{
		"a path":           "unix:" + filepath.Join(shortFolder(t), "roster.sock"),
		"a path with ///":  "unix://" + filepath.Join(shortFolder(t), "roster.sock"),
		"an abstract name": "unix-abstract:roster-" + filepath.Base(shortFolder(t)),
	} {
		t.Run(name, func(t *testing.T) {
			serveUnix(t, address)
			for _, protocol := range []string{"grpc", "grpcweb", "connect"} {
				got := roster(t, "get", "1", "--server", address, "--protocol", protocol, "--timeout", "20s")
				if got.code != 0 || !strings.Contains(got.stdout, "Leila Dubois") {
					t.Errorf("roster get: exit %d: %s%s", got.code, got.stdout, got.stderr)
				}
			}
			conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.Invoke(t.Context(), "/MyService/Health", &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
				t.Errorf("grpc-go: %v", err)
			}
			got := run(t, exec.Command(python, "-c", `
import sys, grpc, api_pb2, api_pb2_grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    print(api_pb2_grpc.MyServiceStub(channel).User(api_pb2.UserReq(userIDs=[1]), timeout=20).data[0].name)
`, address))
			if strings.TrimSpace(got.stdout) != "Leila Dubois" {
				t.Errorf("grpcio: %s%s", got.stdout, got.stderr)
			}
			socket := []string{"--unix-socket", strings.TrimPrefix(strings.TrimPrefix(address, "unix:"), "//")}
			if abstract, ok := strings.CutPrefix(address, "unix-abstract:"); ok {
				socket = []string{"--abstract-unix-socket", abstract}
			}
			curl := append(socket, "-sS", "-H", "content-type: application/json", "-d", `{"userIDs":[1]}`, "http://localhost/MyService/User")
			if got := run(t, exec.Command("curl", curl...)); !strings.Contains(got.stdout, "Leila Dubois") {
				t.Errorf("curl: %s%s", got.stdout, got.stderr)
			}
		})
	}
}

func TestAUnixSocketWithTLS(t *testing.T) {
	folder := shortFolder(t)
	cert, key := certtest.SelfSigned(t).Write(t, folder)
	address := "unix:" + filepath.Join(folder, "s")
	serveUnix(t, address, "--tls-cert", cert, "--tls-key", key)
	if got := roster(t, "get", "1", "--server", address, "--ca", cert, "--timeout", "20s"); got.code != 0 || !strings.Contains(got.stdout, "Leila") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
	got := roster(t, "health", "--server", address, "--timeout", "20s")
	if got.code != 1 || !strings.Contains(got.stderr, "the server speaks TLS and was called without") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

// The socket's file: its mode, what becomes of it at the end, and what is there before.
func TestTheFileOfAUnixSocket(t *testing.T) {
	path := filepath.Join(shortFolder(t), "roster.sock")
	address := "unix:" + path
	mode := func() fs.FileMode {
		t.Helper()
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode()
	}
	first := serveUnix(t, address)
	if got := mode(); got != fs.ModeSocket|0o600 {
		t.Errorf("mode %v, want 0600", got)
	}
	// A second server finds the first, and leaves its socket alone.
	second := roster(t, "serve", "--sample", "--addr", address)
	if second.code != 1 || !strings.Contains(second.stderr, "is in use by another program") {
		t.Errorf("exit %d: %s", second.code, second.stderr)
	}
	if got := roster(t, "health", "--server", address, "--timeout", "20s"); got.code != 0 {
		t.Errorf("the first was disturbed: %s", got.stderr)
	}
	// What a killed server leaves behind is in nobody's way.
	first.stop(syscall.SIGKILL)
	mode()
	third := serveUnix(t, address, "--socket-mode", "0660")
	if got := mode(); got != fs.ModeSocket|0o660 {
		t.Errorf("mode %v, want 0660", got)
	}
	if code := third.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	got := roster(t, "health", "--server", address, "--timeout", "20s")
	if got.code != 1 || !strings.Contains(got.stderr, "nothing listens there") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
	// A file that is no socket stays.
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	got = roster(t, "serve", "--sample", "--addr", address)
	if content, _ := os.ReadFile(path); got.code != 1 || string(content) != "mine" || !strings.Contains(got.stderr, "is a file that is no socket") {
		t.Errorf("exit %d: %s; the file has %q", got.code, got.stderr, content)
	}
}

// A server whose socket was replaced does not remove its successor's.
func TestAUnixSocketOfAnotherIsNotRemoved(t *testing.T) {
	path := filepath.Join(shortFolder(t), "roster.sock")
	p := serveUnix(t, "unix:"+path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if code := p.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

// A service manager may pass a Unix socket on.
func TestAnInheritedUnixSocket(t *testing.T) {
	path := filepath.Join(shortFolder(t), "roster.sock")
	p := start(t, inheriting(serveCommand("127.0.0.1:1", filepath.Join(t.TempDir(), "roster.db")), socket(t, "unix", path)))
	p.line(servingAt)
	if got := roster(t, "get", "1", "--server", "unix:"+path, "--timeout", "20s"); got.code != 0 {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
	if p.stop(syscall.SIGTERM); true {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("the manager's socket was removed: %v", err)
		}
	}
}

// Addresses that are none are wrong usage, and those of gRPC are called by their names.
func TestAddressesThatAreRefused(t *testing.T) {
	for arguments, want := range map[string]string{
		"--addr nope":                   "--addr \"nope\": want host:port",
		"--addr localhost:nope":         `"nope" is no port`,
		"--addr localhost:":             `"" is no port`,
		"--addr localhost:70000":        `"70000" is no port`,
		"--addr ::1:50051":              "an IPv6 address is written in brackets",
		"--addr dns:///localhost:50051": "dns: is for clients",
		"--addr ipv4:127.0.0.1:50051":   "ipv4: is for clients",
		"--addr http://localhost:50051": "http: is for clients",
		"--addr unix:":                  "names no Unix socket",
		"--admin-addr nope":             "--admin-addr \"nope\": want host:port",
		"--socket-mode rw":              "want permissions in octal",
		"--socket-mode 0444":            "its owner could not connect",
		"--log-level info+3":            "want debug, info, warn or error",
		"--access-log +5":               "want all, errors, off, or a number",
		"--access-log 99999999999":      "want all, errors, off, or a number",
	} {
		got := roster(t, append([]string{"serve"}, strings.Fields(arguments)...)...)
		if got.code != 2 || !strings.Contains(got.stderr, want) {
			t.Errorf("roster serve %s: exit %d, want 2 and %q in %s", arguments, got.code, want, got.stderr)
		}
	}
	for server, want := range map[string]string{
		"xds:///roster":              "xds",
		"dns://8.8.8.8/roster:1":     "names a DNS server",
		"ipv4:10.0.0.1:1,10.0.0.2:1": "several addresses",
	} {
		if got := roster(t, "health", "--server", server); got.code != 2 || !strings.Contains(got.stderr, want) {
			t.Errorf("--server %s: exit %d: %s", server, got.code, got.stderr)
		}
	}
}

// What gRPC programs write as a target reaches the server.
func TestTargetsOfGRPC(t *testing.T) {
	_, address := serve(t, "--addr", "127.0.0.1:0")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []string{"ipv4:127.0.0.1:" + port, "dns:///localhost:" + port, "dns:localhost:" + port} {
		if got := roster(t, "health", "--server", server, "--timeout", "20s"); got.code != 0 {
			t.Errorf("%s: %s", server, got.stderr)
		}
	}
	if listener, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip("this machine has no IPv6")
	} else {
		listener.Close()
	}
	_, address = serve(t, "--addr", "[::1]:0")
	_, port, _ = net.SplitHostPort(address)
	for _, server := range []string{"ipv6:[::1]:" + port, "[::1%lo]:" + port, "http://[::1%25lo]:" + port} {
		if got := roster(t, "health", "--server", server, "--timeout", "20s"); got.code != 0 {
			t.Errorf("%s: %s", server, got.stderr)
		}
	}
}
