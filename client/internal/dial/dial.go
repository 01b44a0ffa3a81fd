// Package dial has the dialer of a client's calls and of its probes, so that a probe meets what a
// call meets.
package dial

import (
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
