package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// socket returns a file of what listens or is connected.
func socket(t *testing.T, network, address string) *os.File {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	file, err := listener.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

func TestInheritedSocketsThatAreOfNoUse(t *testing.T) {
	connected := func() *os.File {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		file, err := conn.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		return file
	}
	tcp := func() *os.File { return socket(t, "tcp", "127.0.0.1:0") }
	for _, test := range []struct {
		name    string
		sockets []*os.File
		names   string
		want    string
	}{
		{"two without a name", []*os.File{tcp(), tcp()}, "",
			`2 sockets were passed (LISTEN_FD_3, LISTEN_FD_4), and none is called "roster": set FileDescriptorName=roster in the unit of the port's socket`},
		{"two of one name", []*os.File{tcp(), tcp()}, "roster:roster",
			`2 sockets were passed, and more than one is called "roster": give the port one socket unit with one ListenStream=`},
		{"a socket of packets", []*os.File{socket(t, "unixpacket", filepath.Join(t.TempDir(), "socket"))}, "",
			"the socket that was passed (LISTEN_FD_3) is a unixpacket socket: the socket unit needs ListenStream=HOST:PORT or a path"},
		{"a connection", []*os.File{connected()}, "",
			"the socket that was passed (LISTEN_FD_3) does not listen: the socket unit needs ListenStream= and Accept=no"},
	} {
		command := inheriting(serveCommand("127.0.0.1:0", filepath.Join(t.TempDir(), "roster.db")), test.sockets...)
		command.Env = append(command.Env, "LISTEN_FDNAMES="+test.names)
		if got := run(t, command); got.code != 1 || !strings.Contains(got.stderr, test.want) {
			t.Errorf("%s: %d %s\nwant 1 and %s", test.name, got.code, got.stderr, test.want)
		}
	}
}

// The variables are for one process alone.
func TestSocketsOfAnotherProcessAreNotTaken(t *testing.T) {
	command := exec.Command(binary, serveCommand("127.0.0.1:0", filepath.Join(t.TempDir(), "roster.db"))...)
	command.Env = append(os.Environ(), "LISTEN_FDS=1", fmt.Sprintf("LISTEN_PID=%d", os.Getpid()))
	file := socket(t, "tcp", "127.0.0.1:0")
	command.ExtraFiles = []*os.File{file}
	p := start(t, command)
	if address := p.line(servingAt); address == "" {
		t.Error("it does not serve")
	}
	if strings.Contains(p.log(), "the socket was passed to this process") {
		t.Error("it took another's socket")
	}
}

// The manager is told when the port is served, and when that ends.
func TestTheServiceManagerIsTold(t *testing.T) {
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	manager.SetReadDeadline(time.Now().Add(time.Minute))
	told := func() string {
		t.Helper()
		message := make([]byte, 1000)
		n, err := manager.Read(message)
		if err != nil {
			t.Fatal(err)
		}
		return string(message[:n])
	}
	command := inheriting(serveCommand("127.0.0.1:1", filepath.Join(t.TempDir(), "roster.db")),
		socket(t, "tcp", "127.0.0.1:0"), socket(t, "tcp", "127.0.0.1:0"))
	command.Env = append(command.Env, "LISTEN_FDNAMES=another:roster",
		"NOTIFY_SOCKET="+manager.LocalAddr().String(), "WATCHDOG_USEC=200000")
	p := start(t, command)
	if got := told(); got != "READY=1" {
		t.Errorf("told %q, want READY=1", got)
	}
	address := p.line(servingAt)
	if got := run(t, exec.Command(binary, "health", "--server", "http://"+address)); got.code != 0 {
		t.Errorf("health: %d %s", got.code, got.stderr)
	}
	if got := told(); got != "WATCHDOG=1" {
		t.Errorf("told %q, want WATCHDOG=1", got)
	}
	if code := p.stop(terminate); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	for {
		switch got := told(); got {
		case "WATCHDOG=1":
		case "STOPPING=1":
			return
		default:
			t.Fatalf("told %q, want STOPPING=1", got)
		}
	}
}

// Two servers can share an address only if both say so.
func TestReusePortTakesTwo(t *testing.T) {
	_, address := serve(t)
	got := roster(t, "serve", "--reuse-port", "--addr", address, "--store", filepath.Join(t.TempDir(), "roster.db"))
	if want := "is in use by a program that does not share it: it must run with --reuse-port too, and as the same user"; got.code != 1 || !strings.Contains(got.stderr, want) {
		t.Errorf("%d %s, want 1 and %s", got.code, got.stderr, want)
	}
	for _, arguments := range [][]string{{"--drain-delay", "-1s"}, {"--drain-timeout", "0"}, {"--drain-timeout", "-1s"}} {
		got := roster(t, append([]string{"serve"}, arguments...)...)
		if want := fmt.Sprintf("%s %s", arguments[0], strings.Replace(arguments[1]+"s", "ss", "s", 1)); got.code != 2 || !strings.Contains(got.stderr, want) {
			t.Errorf("%v: %d %s, want 2 and %s", arguments, got.code, got.stderr, want)
		}
	}
}

// systemd finds nothing wrong with its units, and calls the service confined.
func TestSystemdUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("systemd-analyze is not installed")
	}
	folder := t.TempDir()
	var units []string
	for _, name := range []string{"roster.service", "roster.socket"} {
		unit, err := os.ReadFile(filepath.Join(root, "deploy", "systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		// The binary is not installed here.
		installed := strings.ReplaceAll(string(unit), "/usr/local/bin/roster", binary)
		units = append(units, filepath.Join(folder, name))
		if err := os.WriteFile(units[len(units)-1], []byte(installed), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := run(t, exec.Command("systemd-analyze", append([]string{"verify", "--man=no"}, units...)...)); got.code != 0 || got.stderr != "" {
		t.Errorf("verify: %d %s", got.code, got.stderr)
	}
	// Exposure from 0 to 10, in tenths.
	if got := run(t, exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=15", units[0])); got.code != 0 {
		t.Errorf("security: %d %s%s", got.code, got.stdout, got.stderr)
	}
}
