// Package unixaddr reads addresses of Unix sockets as gRPC writes them: unix:PATH, unix:///PATH, and
// unix-abstract:NAME for a name that is no file (Linux). Servers and clients write them alike.
//
//	path, found, err := unixaddr.Parse("unix:/run/roster/roster.sock")
package unixaddr

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
)

// maxPath is how many bytes a path may have: those of sun_path (unix(7)) without the NUL at the end.
const maxPath = 107

// Parse returns what to give net.Dial and net.Listen for the network "unix"; an abstract name begins
// with an @. found is false if address is no address of a Unix socket.
func Parse(address string) (path string, found bool, err error) {
	abstract := false
	switch scheme, rest, _ := strings.Cut(address, ":"); scheme {
	case "unix":
		path = rest
	case "unix-abstract":
		path, abstract = rest, true
	default:
		return "", false, nil
	}
	switch {
	case abstract && runtime.GOOS != "linux":
		return "", true, errors.New("abstract Unix sockets exist on Linux only: use unix:PATH")
	case path == "":
		return "", true, errors.New("names no Unix socket; write unix:PATH")
	case !abstract && strings.HasPrefix(path, "//"):
		if path = strings.TrimPrefix(path, "//"); !strings.HasPrefix(path, "/") {
			return "", true, errors.New("a Unix socket has no host; write unix:PATH, or unix:///PATH with an absolute path")
		}
	case !abstract && strings.HasPrefix(path, "@"):
		return "", true, errors.New("write unix-abstract:NAME for an abstract name, or unix:./@NAME for a file")
	}
	if abstract {
		path = "@" + path
	}
	if strings.ContainsRune(path, 0) {
		return "", true, errors.New("the path of a Unix socket cannot have a NUL")
	}
	if len(path) > maxPath {
		return "", true, fmt.Errorf("the path of the Unix socket has %d bytes, and the system takes at most %d: use a shorter one", len(path), maxPath)
	}
	return path, true, nil
}
