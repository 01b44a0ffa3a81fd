// Package listen opens the socket of a port, and gives it up so that nobody
// notices when another process has the same address.
//
//	listener, err := listen.Open(ctx, listen.Config{Addr: ":50051", Flag: "--addr", ReusePort: true})
//	if err != nil { … } // says which flag, and what to do
//	…
//	listen.Retire(ctx, listener) // accept what has come, and close
//
// There are two ways to hand an address over. An inherited socket, as systemd
// passes it (sd_listen_fds(3)), is one queue of connections that all processes
// which hold it share: who closes it takes nothing away. With SO_REUSEPORT each
// process has a queue of its own, and the kernel resets what is in it, or on
// its way into it, when the socket is closed; Retire first sees to it that
// nothing is.
package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// Config is where to listen.
type Config struct {
	// Addr is host:port, or :port for every address of this machine, and Flag
	// what it was given with, for errors.
	Addr, Flag string
	// ReusePort lets other processes of the same user listen there too, if
	// they ask for it as well. It needs Linux.
	ReusePort bool
}

// Open listens on config.Addr. Its errors name the flags of roster serve.
func Open(ctx context.Context, config Config) (net.Listener, error) {
	var options net.ListenConfig
	if config.ReusePort {
		if !canReusePort {
			return nil, errors.New("--reuse-port needs Linux: elsewhere a port cannot be handed over without losing connections")
		}
		options.Control = reusePort
		options.SetMultipathTCP(false) // its sockets take no filters
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

// Retire closes a listener. If its address is shared with other processes it
// does so in a way that loses no connection, for which listener must go on
// accepting until Retire returns: what comes from now on goes to the others,
// and what has come is accepted. That takes about a second, or until ctx is
// done. The error is of those preparations; the listener is closed nevertheless.
func Retire(ctx context.Context, listener net.Listener) error {
	var err error
	if s, ok := listener.(*shared); ok {
		err = s.leave(ctx)
	}
	return errors.Join(err, listener.Close())
}

// shared is a listener with SO_REUSEPORT.
type shared struct{ *net.TCPListener }
