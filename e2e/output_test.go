package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/roster/client"
)

// A piped server is one whose standard error is a pipe that this test reads, or does not.
type piped struct {
	command *exec.Cmd
	reader  *os.File
	admin   string // address of the admin port, if it has one
	lines   *bufio.Reader
	ended   chan error
}

// servePiped starts a server that logs every call, and reads its log until it serves.
func servePiped(t *testing.T, arguments ...string) (p *piped, address string) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	arguments = append([]string{"serve", "--sample", "--addr", "localhost:0", "--log-format", "json", "--access-log", "all"}, arguments...)
	p = &piped{command: exec.Command(binary, arguments...), reader: reader, lines: bufio.NewReader(reader), ended: make(chan error, 1)}
	p.command.Stderr = writer
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	go func() { p.ended <- p.command.Wait() }()
	t.Cleanup(func() {
		p.command.Process.Kill()
		reader.Close()
	})
	for address == "" {
		line, err := p.lines.ReadString('\n')
		if err != nil {
			t.Fatalf("it does not serve: %v", err)
		}
		var entry struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "admin" {
			p.admin = entry.Address
		}
		address = servingAt(line)
	}
	return p, address
}

// end sends a signal and returns the state of the process when it has ended.
func (p *piped) end(t *testing.T, signal os.Signal) *os.ProcessState {
	t.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(60 * time.Second):
		t.Fatalf("it still runs a minute after %v", signal)
	}
	return p.command.ProcessState
}

// call makes calls, each of which is a line of the log.
func call(t *testing.T, address string, calls int) {
	t.Helper()
	c, err := client.New(address, client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for range calls {
		if _, err := c.Users(ctx, []int32{1}); err != nil {
			t.Fatal(err)
		}
	}
}

// The log's reader stands still: calls are answered, SIGTERM ends the server, and when somebody reads
// again, a line says how many are missing.
func TestALogThatNobodyReadsStopsNothing(t *testing.T) {
	const calls = 3000 // some 700 KB of log: more than the pipe and the queue take
	t.Run("and goes on", func(t *testing.T) {
		p, address := servePiped(t, "--admin-addr", "localhost:0")
		call(t, address, calls)
		_, metrics := get(t, p.admin, "/metrics")
		if !regexp.MustCompile(`(?m)^roster_log_lines_dropped_total [1-9]`).MatchString(metrics) {
			t.Error("roster_log_lines_dropped_total counts nothing")
		}
		written, dropped := 0, 0
		for written+dropped < calls {
			line, err := p.lines.ReadBytes('\n')
			if err != nil {
				t.Fatalf("%v after %d lines of calls, and %d said to be dropped", err, written, dropped)
			}
			var entry struct {
				Msg     string
				Dropped int
			}
			if err := json.Unmarshal(line, &entry); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if entry.Msg == "call" {
				written++
			}
			dropped += entry.Dropped
		}
		if dropped == 0 || written == 0 || written+dropped != calls {
			t.Errorf("%d lines of calls, %d said to be dropped, of %d", written, dropped, calls)
		}
	})
	t.Run("SIGTERM", func(t *testing.T) {
		p, address := servePiped(t)
		call(t, address, calls)
		if state := p.end(t, syscall.SIGTERM); state.ExitCode() != 0 {
			t.Errorf("it ended with %v", state)
		}
	})
	t.Run("the runtime's own words", func(t *testing.T) {
		p, address := servePiped(t)
		call(t, address, calls)
		// Go's runtime answers SIGQUIT by writing every stack to standard error, as it does for a panic.
		if state := p.end(t, syscall.SIGQUIT); state.ExitCode() != 2 {
			t.Errorf("it ended with %v", state)
		}
	})
}

// The log's reader has gone: that is no signal to die of.
func TestAServerOutlivesTheReaderOfItsLog(t *testing.T) {
	p, address := servePiped(t, "--admin-addr", "localhost:0")
	p.reader.Close()
	call(t, address, 100)
	if state := p.end(t, syscall.SIGTERM); state.ExitCode() != 0 {
		t.Errorf("it ended with %v", state)
	}
}

// Somebody who scrapes or takes profiles, and does not read the answer, keeps no call and no end.
func TestAnAdminClientThatDoesNotReadStopsNothing(t *testing.T) {
	server, address, admin := serveAdmin(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(admin, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /debug/pprof/trace?seconds=60 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	call(t, address, 10)
	if code := server.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A command whose output nobody takes ends at the first signal, and says why.
func TestACommandThatCannotWriteItsOutputEndsAtASignal(t *testing.T) {
	_, address := serve(t)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	ids := strings.Split(strings.TrimSpace(strings.Repeat("1 ", 3000)), " ")
	get := exec.Command(binary, append([]string{"get", "--server", "http://" + address, "--timeout", "30s"}, ids...)...)
	var stderr bytes.Buffer
	get.Stdout, get.Stderr = writer, &stderr
	if err := get.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	if _, err := reader.Read(make([]byte, 1)); err != nil { // it has begun to write
		t.Fatal(err)
	}
	if err := get.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- get.Wait() }()
	select {
	case <-ended:
	case <-time.After(60 * time.Second):
		get.Process.Kill()
		t.Fatal("it still runs a minute after SIGINT")
	}
	if get.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("%v: %s", get.ProcessState, stderr.String())
	}
}

// As with head: no word and no signal, but exit code 1.
func TestACommandWhoseReaderHasGoneEndsQuietly(t *testing.T) {
	_, address := serve(t)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reader.Close()
	get := exec.Command(binary, "get", "1", "--server", "http://"+address, "--timeout", "30s")
	var stderr bytes.Buffer
	get.Stdout, get.Stderr = writer, &stderr
	err = get.Run()
	writer.Close()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 || stderr.Len() > 0 {
		t.Errorf("%v: %s", err, stderr.String())
	}
}

// A token whose secret was not printed is one that nobody has: the file must not keep it.
func TestATokenThatCannotBePrintedIsNotKept(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	defer full.Close()
	reader, gone, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reader.Close()
	defer gone.Close()
	for name, stdout := range map[string]*os.File{"a full disk": full, "a reader that has gone": gone} {
		for _, format := range []string{"table", "json"} {
			t.Run(fmt.Sprint(name, " ", format), func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "tokens.json")
				createToken(t, file, "before", "read")
				create := exec.Command(binary, "token", "create", "--tokens", file, "--role", "read", "--name", "lost", "--output", format)
				var stderr bytes.Buffer
				create.Stdout, create.Stderr = stdout, &stderr
				if err := create.Run(); err == nil || !strings.Contains(stderr.String(), "the token could not be printed, and was not kept") {
					t.Errorf("%v: %s", err, stderr.String())
				}
				list := roster(t, "token", "list", "--tokens", file)
				if strings.Contains(list.stdout, "lost") || !strings.Contains(list.stdout, "before") {
					t.Errorf("the file has:\n%s", list.stdout)
				}
			})
		}
	}
}
