// Package process runs the servers that are measured, and reads what they cost
// from /proc: CPU time and resident memory, children included. Linux only.
package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Command says how a server is started.
type Command struct {
	Path string
	Args []string
	// Env is added to the environment of the runner, from which all that tunes
	// a Go program or redirects a client is taken out.
	Env []string
	// Log is the file that gets standard output and error.
	Log string
}

// Server is a running server.
type Server struct {
	PID int

	cmd  *exec.Cmd
	log  *os.File
	done chan struct{} // closed when the process has ended
	err  error         // its end; read after done
}

// Start starts a server and waits until it accepts connections on addr.
func Start(ctx context.Context, command Command, addr string) (*Server, error) {
	log, err := os.Create(command.Log)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, command.Path, command.Args...)
	cmd.Env = append(cleanEnv(), command.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		log.Close()
		return nil, err
	}
	s := &Server{PID: cmd.Process.Pid, cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		s.err = cmd.Wait()
		close(s.done)
	}()
	if err := s.accepts(ctx, addr); err != nil {
		s.Stop()
		said, _ := os.ReadFile(command.Log)
		return nil, fmt.Errorf("start %s: %w\n%s", command.Path, err, tail(said))
	}
	return s, nil
}

func (s *Server) accepts(ctx context.Context, addr string) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s.done:
			return fmt.Errorf("ended before it listened on %s: %w", addr, s.err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("does not listen on %s: %w", addr, err)
		}
	}
}

// Running tells whether the process is there.
func (s *Server) Running() bool {
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal to the process.
func (s *Server) Signal(signal os.Signal) error { return s.cmd.Process.Signal(signal) }

// Stop ends the process: SIGTERM, and after two seconds SIGKILL, since a server
// that drains may wait for a caller that is being measured no more.
func (s *Server) Stop() {
	defer s.log.Close()
	if err := s.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return
	}
	select {
	case <-s.done:
		return
	case <-time.After(2 * time.Second):
	}
	for _, pid := range tree(s.PID) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended meanwhile
	}
	<-s.done
}

// cleanEnv is the environment without what would make two runs differ.
func cleanEnv() []string {
	var env []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		switch strings.ToUpper(name) {
		case "GOGC", "GOMEMLIMIT", "GOMAXPROCS", "GODEBUG", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "GRPC_PROXY":
			continue
		}
		if strings.HasPrefix(name, "ROSTER_") || strings.HasPrefix(name, "OTEL_") {
			continue
		}
		env = append(env, variable)
	}
	return env
}

// tail is the end of a log.
func tail(log []byte) []byte {
	const most = 2000
	return log[max(0, len(log)-most):]
}

// FreeAddr returns an address on 127.0.0.1 that nothing listens on.
func FreeAddr() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// Output returns what the server has written to standard output and error.
func (s *Server) Output() (string, error) {
	text, err := os.ReadFile(s.log.Name())
	return string(text), err
}
