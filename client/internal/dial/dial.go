// Package dial connects a client's calls and its probes, so that a probe meets what a
// call meets.
package dial

import (
	"context"
	"net"
	"time"
)

// timeout bounds one attempt to connect, which net/http continues after the call that needed the
// connection has given up.
const timeout = 5 * time.Second

// Dialer returns a dialer for TCP. TCP's own keepalive finds a peer that disappeared while nothing
// was being sent, and TCP_USER_TIMEOUT, where the system has it, one that disappeared while data
// was on its way.
func Dialer() *net.Dialer {
	return &net.Dialer{Timeout: timeout, Control: limitUnacknowledged}
}

// To returns a function that connects to the Unix socket at path, whatever address it is given, or by
// TCP to that address if path is empty.
func To(path string) func(ctx context.Context, network, address string) (net.Conn, error) {
	if path == "" {
		return Dialer().DialContext
	}
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		dialer := net.Dialer{Timeout: timeout}
		return dialer.DialContext(ctx, "unix", path)
	}
}
