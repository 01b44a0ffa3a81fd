// Package e2e holds the tests that a stranger would believe: the real binary
// on a real port, called by every kind of client. It has no code of its own.
//
// The Go, CLI and curl tests need Go and curl. Those in Python and in the
// browser need what `make test-e2e` names in ROSTER_E2E_…; without that they
// are skipped, or, with CI=true, fail.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// setUp has the variables ROSTER_E2E_….
var setUp = make(map[string]string)

// binary is the program under test, root the repository.
var binary, root string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	// What make set up for the tests is no setting of the program.
	for _, variable := range os.Environ() {
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "ROSTER_E2E_") {
			setUp[name] = value
			os.Unsetenv(name)
		}
	}
	folder, err := os.MkdirTemp("", "roster-e2e-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)
	// Another user runs it in one test.
	if err := os.Chmod(folder, 0o755); err != nil {
		panic(err)
	}
	if root, err = filepath.Abs(".."); err != nil {
		panic(err)
	}
	binary = filepath.Join(folder, "roster")
	build := exec.Command("go", "build", "-o", binary, "./cmd/roster")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s\n%v\n", out, err)
		return 1
	}
	return m.Run()
}

// need returns what make set up for a suite, or ends the test.
func need(t *testing.T, variable string) string {
	t.Helper()
	value := setUp[variable]
	if value == "" {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not set: run make test-e2e", variable)
		}
		t.Skipf("%s is not set: run make test-e2e", variable)
	}
	return value
}

// A process is a program that was started and will be ended.
type process struct {
	t       *testing.T
	command *exec.Cmd
	exited  chan struct{}

	mu     sync.Mutex
	stderr bytes.Buffer
	lines  chan string
}

// start starts a program; the test's end ends it.
func start(t *testing.T, command *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, command: command, exited: make(chan struct{}), lines: make(chan string, 1000)}
	pipe, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		for scanner := bufio.NewScanner(pipe); scanner.Scan(); {
			p.mu.Lock()
			p.stderr.WriteString(scanner.Text() + "\n")
			p.mu.Unlock()
			select {
			case p.lines <- scanner.Text():
			default:
			}
		}
		command.Wait()
	}()
	t.Cleanup(func() {
		command.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("%s said:\n%s", command.Path, p.log())
		}
	})
	return p
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// line waits for a line on standard error that find makes something of.
func (p *process) line(find func(string) string) string {
	p.t.Helper()
	timeout := time.After(60 * time.Second)
	for {
		select {
		case line := <-p.lines:
			if found := find(line); found != "" {
				return found
			}
		case <-p.exited:
			p.t.Fatalf("%s ended:\n%s", p.command.Path, p.log())
		case <-timeout:
			p.t.Fatalf("%s is not ready after a minute:\n%s", p.command.Path, p.log())
		}
	}
}

// stop sends a signal, waits for the end and returns the exit code.
func (p *process) stop(signal os.Signal) int {
	p.t.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.exited:
	case <-time.After(60 * time.Second):
		p.t.Fatalf("%s still runs a minute after %v", p.command.Path, signal)
	}
	return p.command.ProcessState.ExitCode()
}

// serve starts `roster serve` on a free port and returns it and its address.
func serve(t *testing.T, arguments ...string) (p *process, address string) {
	t.Helper()
	if !strings.Contains(strings.Join(arguments, " "), "--store") {
		arguments = append(arguments, "--store", filepath.Join(t.TempDir(), "roster.db"), "--sample")
	}
	p = start(t, exec.Command(binary, append([]string{"serve", "--addr", "localhost:0", "--log-format", "json"}, arguments...)...))
	return p, p.line(servingAt)
}

// servingAt is the address in the line that says that a server serves.
func servingAt(line string) string {
	var entry struct{ Msg, Address string }
	if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving" {
		return entry.Address
	}
	return ""
}

// result is what a program that ran to its end said.
type result struct {
	stdout, stderr string
	code           int
}

// runLimit is how long a program that run runs may take.
const runLimit = 10 * time.Minute

// run runs a program to its end. One that takes longer than runLimit is told to abort, so that Go and Python
// print their stacks.
func run(t *testing.T, command *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	command.Env = append(command.Environ(), "PYTHONFAULTHANDLER=1")
	if err := command.Start(); err != nil {
		t.Fatalf("%v: %v", command.Args, err)
	}
	abort := time.AfterFunc(runLimit, func() { command.Process.Signal(syscall.SIGABRT) })
	err := command.Wait()
	if !abort.Stop() {
		t.Fatalf("%v: not ended within %v\n%s%s", command.Args, runLimit, stdout.String(), stderr.String())
	}
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatalf("%v: %v", command.Args, err)
	}
	return result{stdout.String(), stderr.String(), command.ProcessState.ExitCode()}
}

// roster runs the binary to its end.
func roster(t *testing.T, arguments ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	return run(t, exec.CommandContext(ctx, binary, arguments...))
}

// user is a row of the sample.
type user struct {
	Name  string `json:"name"`
	Age   int    `json:"age"`
	Email string `json:"email"`
}

// sample is examples/users.csv by id.
func sample(t *testing.T) map[int32]user {
	t.Helper()
	file, err := os.Open(filepath.Join(root, "examples", "users.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	users := make(map[int32]user)
	rows := csv.NewReader(file)
	for {
		row, err := rows.Read()
		if err == io.EOF {
			return users
		}
		if err != nil {
			t.Fatal(err)
		}
		var id int32
		var u user
		if _, err := fmt.Sscan(row[0], &id); err != nil {
			continue // the header
		}
		fmt.Sscan(row[2], &u.Age)
		u.Name, u.Email = row[1], row[3]
		users[id] = u
	}
}

var terminate, hangUp os.Signal = syscall.SIGTERM, syscall.SIGHUP

// A reload is asked for by SIGHUP, which ends a program that does not know it.
func TestAHangUpIsNoEnd(t *testing.T) {
	p, address := serve(t, "--sample")
	if err := p.command.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if got := roster(t, "get", "1", "--server", "http://"+address); got.code != 0 {
		t.Errorf("after SIGHUP: exit code %d, %s", got.code, got.stderr)
	}
	if code := p.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
