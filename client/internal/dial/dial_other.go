//go:build !linux

package dial

import "syscall"

// limitUnacknowledged does nothing: there is no TCP_USER_TIMEOUT, and the system's own limit stays.
func limitUnacknowledged(_, _ string, _ syscall.RawConn) error { return nil }
