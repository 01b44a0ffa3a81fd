package main

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"example.com/roster/server/listen"
)

// A port is a listening socket, or the address of one that has yet to be opened.
type port struct {
	config   listen.Config
	listener net.Listener // nil until it is open
}

// takePort opens the port at once, so that an address in use is reported before anything else
// happens. A shared port is opened later: it gets calls as soon as it is open, and they are lost
// if the program then fails to start.
func takePort(ctx context.Context, f serveFlags, log *slog.Logger) (*port, error) {
	mode, _ := parseSocketMode(f.socketMode) // checked already
	config := listen.Config{Addr: f.addr, Flag: "--addr", ReusePort: f.reusePort, Mode: mode}
	listener, err := listen.Inherited()
	switch {
	case listener != nil:
		log.Info("listening on an inherited socket: --addr is ignored", "address", listener.Addr().String())
	case err == nil && !f.reusePort:
		listener, err = listen.Open(ctx, config)
	}
	return &port{config, listener}, err
}

// open opens the port if it is not open yet.
func (p *port) open(ctx context.Context) (net.Listener, error) {
	if p.listener != nil {
		return p.listener, nil
	}
	var err error
	p.listener, err = listen.Open(ctx, p.config)
	return p.listener, err
}

// close closes the port if it is open.
func (p *port) close() {
	if p.listener != nil {
		p.listener.Close()
	}
}

// callAddress returns host:port as a caller on this machine would write it: the host that --addr
// names, or localhost if that is every address. For a Unix socket it returns unix:PATH, with a path
// that holds in every folder.
func callAddress(asked string, actual net.Addr) string {
	if socket, ok := actual.(*net.UnixAddr); ok {
		if name, abstract := strings.CutPrefix(socket.Name, "@"); abstract {
			return "unix-abstract:" + name
		}
		if path, err := filepath.Abs(socket.Name); err == nil {
			return "unix:" + path
		}
		return "unix:" + socket.Name
	}
	host, _, err := net.SplitHostPort(asked)
	if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	_, port, _ := net.SplitHostPort(actual.String())
	return net.JoinHostPort(host, port)
}

// notifySystemd tells systemd, if it started this process, that the port is served and, when ctx
// is done, that the process is stopping. If the unit has WatchdogSec=, it is told besides that the
// process is alive (sd_notify(3)).
func notifySystemd(ctx context.Context, log *slog.Logger) {
	notify := func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			log.Warn("sd_notify failed", "state", state, "error", err)
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
