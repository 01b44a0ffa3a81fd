package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Server is a running peer.
type Server struct {
	Addr string

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

func start(ctx context.Context, command, env []string, logFile, addr string) (*Server, error) {
	log, err := os.Create(logFile)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s := &Server{Addr: addr, cmd: exec.CommandContext(ctx, command[0], command[1:]...), done: make(chan struct{})}
	s.cmd.Env = append(CleanEnv(), env...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = 5 * time.Second
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait() // whoever stops it does not mind how it ends
		close(s.done)
	}()
	for began := time.Now(); ; {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return s, conn.Close()
		}
		select {
		case <-s.done:
		case <-time.After(5 * time.Millisecond):
			if time.Since(began) < 20*time.Second {
				continue
			}
		}
		s.Stop()
		said, _ := os.ReadFile(logFile)
		return nil, fmt.Errorf("%s does not listen: %w\n%s", command[0], err, said[max(0, len(said)-2000):])
	}
}

// Stop ends the process: SIGTERM, and after two seconds SIGKILL, since a server that drains may
// wait for a caller that is no longer measured.
func (s *Server) Stop() {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); errors.Is(err, os.ErrProcessDone) {
		return
	}
	select {
	case <-s.done:
		return
	case <-time.After(2 * time.Second):
	}
	for _, pid := range tree(s.cmd.Process.Pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended meanwhile
	}
	<-s.done
}

// CPU returns the user and system time that the process and its children have used.
func (s *Server) CPU() (time.Duration, error) {
	// USER_HZ is 100 on every Linux that Go runs on.
	const tick = 10 * time.Millisecond
	var total time.Duration
	for _, pid := range tree(s.cmd.Process.Pid) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		// The name in parentheses may have spaces; utime and stime are the 12th and 13th field
		// after it.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		for _, field := range fields[11:13] {
			ticks, err := strconv.ParseInt(string(field), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
			}
			total += time.Duration(ticks) * tick
		}
	}
	return total, nil
}

// Memory returns the resident memory of the process and its children in bytes, a page that several
// of them share counted once (PSS).
func (s *Server) Memory() (total int64, err error) {
	for _, pid := range tree(s.cmd.Process.Pid) {
		bytes, err := kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
		if err != nil {
			return 0, err
		}
		total += bytes
	}
	return total, nil
}

// RSS returns the resident memory of the process alone in bytes. It is cheaper to read than Memory.
func (s *Server) RSS() (int64, error) {
	return kilobytes(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid), "VmRSS:")
}

// PeakRSS returns the largest resident memory that a process has had, in bytes. The rusage of an
// ended process does not tell: it begins with that of its parent.
func PeakRSS(pid int) (int64, error) { return kilobytes(fmt.Sprintf("/proc/%d/status", pid), "VmHWM:") }

// kilobytes reads one line of the form "Name:  123 kB".
func kilobytes(file, name string) (int64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == name {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, name)
}

// tree returns a process and all its descendants. What has ended meanwhile is left out.
func tree(pid int) []int {
	pids := []int{pid}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, tree(child)...)
			}
		}
	}
	return pids
}

// CleanEnv is the environment without what would make two runs differ: what tunes a Go program,
// redirects a client or configures Roster.
func CleanEnv() (env []string) {
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(strings.ToUpper(variable), "=")
		switch name {
		case "GOGC", "GOMEMLIMIT", "GOMAXPROCS", "GODEBUG", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "GRPC_PROXY":
		default:
			if !strings.HasPrefix(name, "ROSTER_") && !strings.HasPrefix(name, "OTEL_") {
				env = append(env, variable)
			}
		}
	}
	return env
}

func freeAddr() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
