package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
)

// name is what a socket unit must call the port's socket (FileDescriptorName=) if it passes more
// than one.
const name = "roster"

// Inherited returns the listening socket that the parent process passed to this one, as systemd
// does (sd_listen_fds(3)); nil if there is none. If LISTEN_FDS counts several, it is the one that
// LISTEN_FDNAMES calls "roster". Inherited unsets these variables, since they are for one process
// only (LISTEN_PID).
func Inherited() (net.Listener, error) {
	files := activation.Files(true)
	if len(files) == 0 {
		return nil, nil
	}
	var names []string
	var chosen *os.File
	for _, file := range files {
		names = append(names, file.Name())
		if len(files) == 1 || file.Name() == name {
			if chosen != nil {
				return nil, fmt.Errorf("%d sockets were passed, and more than one is called %q: give the port one socket unit with one ListenStream=", len(files), name)
			}
			chosen = file
		}
	}
	if chosen == nil {
		return nil, fmt.Errorf("%d sockets were passed (%s), and none is called %q: set FileDescriptorName=%s in the unit of the port's socket",
			len(files), strings.Join(names, ", "), name, name)
	}
	defer chosen.Close() // FileListener duplicates it
	listener, err := net.FileListener(chosen)
	if err == nil && !listens(chosen) {
		listener.Close()
		err = errors.New("it is connected")
	}
	if err != nil {
		return nil, fmt.Errorf("the socket that was passed (%s) does not listen: the socket unit needs ListenStream= and Accept=no: %w", chosen.Name(), err)
	}
	switch network := listener.Addr().Network(); network {
	case "tcp", "unix":
	default:
		listener.Close()
		return nil, fmt.Errorf("the socket that was passed (%s) is a %s socket: the socket unit needs ListenStream=HOST:PORT or a path", chosen.Name(), network)
	}
	return listener, nil
}
