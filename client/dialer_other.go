//go:build !linux

package client

import "syscall"

// limitUnacknowledged leaves the system's own limit where there is no
// TCP_USER_TIMEOUT.
func limitUnacknowledged(_, _ string, _ syscall.RawConn) error { return nil }
