package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
)

// name is what a socket unit calls the port's socket (FileDescriptorName=) when
// it passes more than one.
const name = "roster"

// Inherited returns the listening socket that whoever started this process
// passed to it, nil if none: the one file descriptor that LISTEN_FDS counts, or
// of several the one that LISTEN_FDNAMES calls "roster" (sd_listen_fds(3)). The
// variables are for one process, LISTEN_PID, and are unset by this.
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
				return nil, fmt.Errorf("%d sockets were passed, and more than one is called %q: one socket unit and one ListenStream= for the port", len(files), name)
			}
			chosen = file
		}
	}
	if chosen == nil {
		return nil, fmt.Errorf("%d sockets were passed (%s), and none is called %q: set FileDescriptorName=%s in the unit of the port's socket",
			len(files), strings.Join(names, ", "), name, name)
	}
	defer chosen.Close() // what follows is a duplicate
	listener, err := net.FileListener(chosen)
	if err == nil && !listens(chosen) {
		listener.Close()
		err = errors.New("it is connected")
	}
	if err != nil {
		return nil, fmt.Errorf("the socket that was passed (%s) does not listen: a socket unit wants ListenStream= and Accept=no: %w", chosen.Name(), err)
	}
	if _, tcp := listener.(*net.TCPListener); !tcp {
		listener.Close()
		return nil, fmt.Errorf("the socket that was passed (%s) is a %s socket: a socket unit wants ListenStream=HOST:PORT", chosen.Name(), listener.Addr().Network())
	}
	return listener, nil
}
