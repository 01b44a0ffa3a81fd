package main

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/pflag"

	"example.com/roster/server/listen"
)

// restartFlags are how the port is taken over from another process, and left.
type restartFlags struct {
	reusePort                bool
	drainDelay, drainTimeout time.Duration
}

func (f *restartFlags) register(flags *pflag.FlagSet) {
	flags.BoolVar(&f.reusePort, "reuse-port", false,
		"let another roster serve with this flag listen on --addr and --admin-addr too, to take over before this one ends (Linux)")
	flags.DurationVar(&f.drainDelay, "drain-delay", 0,
		"how long to serve on at the end with health at NOT_SERVING, for load balancers to see it")
	flags.DurationVar(&f.drainTimeout, "drain-timeout", 30*time.Second, "how long running calls may take to finish at the end")
}

func (f restartFlags) check() error {
	switch {
	case f.drainDelay < 0:
		return usage("--drain-delay %v: must be 0 or more", f.drainDelay)
	case f.drainTimeout <= 0:
		return usage("--drain-timeout %v: must be more than 0", f.drainTimeout)
	}
	return nil
}

// A port is a listening socket, or the address of one that is yet to be opened.
type port struct {
	addr     string
	listener net.Listener // nil until it is open
}

// takePort opens the port at once, so that one that is taken shows before
// anything else happens; except where it is to be shared: calls come as soon as
// it is open, and are lost if the program then fails to start.
func (f restartFlags) takePort(ctx context.Context, addr string, log *slog.Logger) (*port, error) {
	listener, err := listen.Inherited()
	switch {
	case listener != nil:
		log.Info("the socket was passed to this process, and --addr does not count", "address", listener.Addr().String())
	case err == nil && !f.reusePort:
		listener, err = listen.Open(ctx, listen.Config{Addr: addr, Flag: "--addr"})
	}
	return &port{addr, listener}, err
}

// open opens it if it is not.
func (p *port) open(ctx context.Context) (net.Listener, error) {
	if p.listener != nil {
		return p.listener, nil
	}
	var err error
	p.listener, err = listen.Open(ctx, listen.Config{Addr: p.addr, Flag: "--addr", ReusePort: true})
	return p.listener, err
}

// close closes it if it is open.
func (p *port) close() {
	if p.listener != nil {
		p.listener.Close()
	}
}

// tellManager tells systemd, if it started this process, that the port is
// served, until ctx is done; and that the process is alive, if it asks to be
// told (sd_notify(3), WatchdogSec=).
func tellManager(ctx context.Context, log *slog.Logger) {
	notify := func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			log.Warn("the service manager cannot be told how things are", "state", state, "error", err)
		}
	}
	notify(daemon.SdNotifyReady)
	context.AfterFunc(ctx, func() { notify(daemon.SdNotifyStopping) })
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return
	}
	go func() {
		for range time.Tick(interval / 2) {
			notify(daemon.SdNotifyWatchdog)
		}
	}()
}
