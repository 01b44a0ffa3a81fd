// Package conn is what a connection passes before it is a request: its first byte (TLS or
// cleartext), the stall of a peer that stopped reading, the end of HTTP/1.1 connections when the port
// drains, and the log of what went wrong on the way. It knows of HTTP what an [http.Server] must be
// told, and nothing of services.
//
//	parting, stats, log := new(conn.Parting), new(conn.Stats), conn.NewErrorLog(logger)
//	httpServer := &http.Server{Handler: parting.Handler(handler), ConnContext: conn.Context, ErrorLog: log.Logger()}
//	listener = conn.NewListener(listener, conn.Config{StallTimeout: 30 * time.Second, Stats: stats, Parting: parting, Log: log})
//	go httpServer.Serve(listener)
package conn

import (
	"net"
	"net/http"
	"time"
)

// Config says what becomes of the connections of a port. Every field but Cleartext and MaxConnections must
// be set.
type Config struct {
	// StallTimeout is how long a write to a peer that has stopped reading may stand still before the
	// connection fails.
	StallTimeout time.Duration
	// Stats counts the connections.
	Stats *Stats
	// Parting follows those that are not HTTP/2.
	Parting *Parting
	// Log gets a line for a client that speaks TLS to a port without.
	Log *ErrorLog
	// MaxConnections is how many connections may be open; 0 is no limit. Once it is reached, idle
	// connections give way to new ones, and no address keeps all of them.
	MaxConnections int
	// Cleartext, if set, says that the port speaks TLS, and serves the connections whose client does
	// not. It serves until it is closed.
	Cleartext *http.Server
}

// NewListener returns a listener whose connections are those of inner, as config has them.
func NewListener(inner net.Listener, config Config) net.Listener {
	stalling := stallListener{inner, config.StallTimeout, config.Stats, config.Parting, newLimit(config.MaxConnections), config.Log}
	sorting := sortingListener{Listener: stalling, log: config.Log}
	if config.Cleartext != nil {
		sorting.cleartext = newHandedListener(inner.Addr())
		go func() { _ = config.Cleartext.Serve(sorting.cleartext) }() // until it is closed
	}
	return sorting
}
