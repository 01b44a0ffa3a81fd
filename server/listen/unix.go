//go:build unix

package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// unixSocket is a listener on a Unix socket that has a file.
type unixSocket struct {
	*net.UnixListener
	path string
	file fs.FileInfo
}

// openUnix listens on a Unix socket. One that is there already is removed if no process listens on it,
// as one is left behind by a server that was killed. Anything else stays.
func openUnix(ctx context.Context, config Config, path string) (net.Listener, error) {
	fail := func(text string, args ...any) (net.Listener, error) {
		return nil, fmt.Errorf("%s %s: "+text, append([]any{config.Flag, config.Addr}, args...)...)
	}
	if config.ReusePort {
		return fail("--reuse-port is for TCP: pass the socket to the next process, as systemd does, or serve without --reuse-port")
	}
	var options net.ListenConfig
	if strings.HasPrefix(path, "@") {
		listener, err := options.Listen(ctx, "unix", path)
		if errors.Is(err, syscall.EADDRINUSE) {
			return fail("is in use by another program: stop that one, or choose another name")
		}
		if err != nil {
			return fail("%w", err)
		}
		return listener, nil
	}
	// Of two processes that find the same socket left behind, one must not remove that of the other.
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fail("%w", err)
	}
	defer folder.Close() // and with it ends the lock
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		return fail("lock its folder: %w", err)
	}
	if err := removeStale(path); err != nil {
		return fail("%w", err)
	}
	// The file is made readable and writable by its owner alone, and gets its mode afterwards: there is
	// no moment at which others can connect who may not.
	mask := syscall.Umask(0o177)
	opened, err := options.Listen(ctx, "unix", path)
	syscall.Umask(mask)
	if err != nil {
		return fail("%w", err)
	}
	listener := opened.(*net.UnixListener)
	listener.SetUnlinkOnClose(false) // see Close
	err = os.Chmod(path, config.Mode)
	var file fs.FileInfo
	if err == nil {
		file, err = os.Lstat(path)
	}
	if err != nil {
		listener.Close()
		os.Remove(path)
		return fail("%w", err)
	}
	return &unixSocket{listener, path, file}, nil
}

// removeStale removes the socket at path if no process listens on it. An error says what is there.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSocket == 0:
		return errors.New("is a file that is no socket, which is left as it is: choose another path")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		conn.Close()
		return errors.New("is in use by another program: stop that one, or choose another path")
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, fs.ErrNotExist):
		return nil // it was removed in this moment
	}
	return fmt.Errorf("a socket is there, and whether it is in use cannot be told, so it is left as it is: %w", err)
}

// Close closes the socket and removes its file, unless another process has put its own there.
func (s *unixSocket) Close() error {
	if file, err := os.Lstat(s.path); err == nil && os.SameFile(file, s.file) {
		os.Remove(s.path)
	}
	return s.UnixListener.Close()
}
