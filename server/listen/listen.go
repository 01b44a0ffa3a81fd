// Package listen opens the socket of a port, and closes it without losing connections if another
// process listens at the same address.
//
//	listener, err := listen.Open(ctx, listen.Config{Addr: ":50051", Flag: "--addr", ReusePort: true})
//	if err != nil { … } // says which flag, and what to do
//	…
//	listen.Retire(ctx, listener) // accept what is queued, and close
//
// A process can hand its address over to the next one in two ways. An inherited socket, as systemd
// passes it (sd_listen_fds(3)), has one queue of connections, which all processes that hold the
// socket share, so closing it in one process loses nothing. With SO_REUSEPORT each process has a
// queue of its own. When its socket is closed, the kernel resets the connections in the queue and
// those whose handshake is under way, so Retire waits until there are none.
package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"example.com/roster/internal/unixaddr"
)

// Config is where to listen.
type Config struct {
	// Addr is host:port, :port for every address of this machine, or a Unix socket as package unixaddr
	// reads it. Flag is the command line flag for it, which errors name.
	Addr, Flag string
	// ReusePort sets SO_REUSEPORT, so that other processes of the same user that set it too can
	// listen at the same address. It needs Linux.
	ReusePort bool
	// Mode has the permissions of a Unix socket: those who may write to it may connect.
	Mode fs.FileMode
}

// Open listens on config.Addr. Its errors name the flags of roster serve.
func Open(ctx context.Context, config Config) (net.Listener, error) {
	if path, found, err := unixaddr.Parse(config.Addr); err != nil {
		return nil, fmt.Errorf("%s %s: %w", config.Flag, config.Addr, err)
	} else if found {
		return openUnix(ctx, config, path)
	}
	var options net.ListenConfig
	if config.ReusePort {
		if !canReusePort {
			return nil, errors.New("--reuse-port needs Linux: elsewhere a port cannot be handed over without losing connections")
		}
		options.Control = reusePort
		options.SetMultipathTCP(false) // MPTCP sockets do not support socket filters
	}
	listener, err := options.Listen(ctx, "tcp", config.Addr)
	switch {
	case err == nil:
		if config.ReusePort {
			return &shared{listener.(*net.TCPListener)}, nil
		}
		return listener, nil
	case errors.Is(err, syscall.EADDRINUSE) && config.ReusePort:
		return nil, fmt.Errorf("%s %s is in use by a program that does not share it: it must run with --reuse-port too, and as the same user", config.Flag, config.Addr)
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s %s is in use by another program: stop that one, or choose another port", config.Flag, config.Addr)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s %s: this user may not listen there: choose a port of 1024 or more", config.Flag, config.Addr)
	}
	return nil, fmt.Errorf("%s %s: %w", config.Flag, config.Addr, err)
}

// Retire closes a listener. If other processes share its address, Retire loses no connection: new
// connections go to the others, and the caller must keep accepting the queued ones until Retire
// returns. That takes about a second, or until ctx is done. The error is about these preparations;
// the listener is closed in any case.
func Retire(ctx context.Context, listener net.Listener) error {
	var err error
	if s, ok := listener.(*shared); ok {
		err = s.leave(ctx)
	}
	return errors.Join(err, listener.Close())
}

// shared is a listener with SO_REUSEPORT.
type shared struct{ *net.TCPListener }
