// Package conn handles connections before they carry requests: it reads the header of the PROXY
// protocol, tells TLS from cleartext by the first byte, fails writes to peers that have stopped reading, closes HTTP/1.1 connections without
// losing calls when the port drains, and logs what goes wrong with connections. It knows nothing of
// services; requests are the matter of package gate.
//
//	drain, stats, log := new(conn.HTTP1Drain), new(conn.Stats), conn.NewErrorLog(logger)
//	httpServer := &http.Server{Handler: drain.Handler(handler), ConnContext: conn.Context, ErrorLog: log.Logger()}
//	listener = conn.NewListener(listener, conn.Config{StallTimeout: 30 * time.Second, Stats: stats, HTTP1Drain: drain, Log: log})
//	go httpServer.Serve(listener)
package conn

import (
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Config configures the connections of a port. StallTimeout, Stats, HTTP1Drain and Log must be set.
type Config struct {
	// StallTimeout is how long a write may make no progress before it fails, because the peer has
	// stopped reading.
	StallTimeout time.Duration
	// Stats counts the connections.
	Stats *Stats
	// HTTP1Drain counts the connections that do not speak HTTP/2.
	HTTP1Drain *HTTP1Drain
	// Log gets a line for each client that speaks TLS to a cleartext port.
	Log *ErrorLog
	// MaxConnections is the maximum number of open connections; 0 is no limit. Once it is reached, idle
	// connections give way to new ones, and no address keeps all of them. Those of HTTP/2 are shut down,
	// if the engine calls Idle; a sixteenth of MaxConnections and 32 more may be shutting down.
	MaxConnections int
	// Cleartext must be set for a port that speaks TLS, and only there: it serves the connections of
	// clients that speak cleartext HTTP. The caller closes it.
	Cleartext *http.Server
	// ProxyProtocol expects the header of the PROXY protocol at the start of each connection, and takes
	// the address of the connection from it. If there are TrustedProxies, only they may send it.
	ProxyProtocol  bool
	TrustedProxies []netip.Prefix
}

// NewListener returns a listener that accepts the connections of inner and handles them as config
// says.
func NewListener(inner net.Listener, config Config) net.Listener {
	if config.ProxyProtocol {
		inner = newProxyListener(inner, config.TrustedProxies, config.Log)
	}
	stalling := stallListener{inner, config.StallTimeout, config.Stats, config.HTTP1Drain, newLimit(config.MaxConnections), newHeads(), config.Log}
	listener := firstByteListener{Listener: stalling, log: config.Log}
	if config.Cleartext != nil {
		listener.cleartext = newQueueListener(inner.Addr())
		go func() { _ = config.Cleartext.Serve(listener.cleartext) }() // returns when it is closed
	}
	return listener
}
