package client

import (
	"syscall"
	"time"
)

// tcpUserTimeout is TCP_USER_TIMEOUT (tcp(7)), which package syscall lacks.
const tcpUserTimeout = 0x12

// unacknowledgedLimit is how long sent bytes may stay unacknowledged before
// the kernel gives a connection up, gRPC's own figure. By default it is a
// quarter of an hour, through which every call to a machine that vanished
// would run into its deadline on the dead connection; HTTP/2 pings, the other
// remedy, annoy Python servers.
const unacknowledgedLimit = 20 * time.Second

func limitUnacknowledged(_, _ string, conn syscall.RawConn) error {
	return conn.Control(func(fd uintptr) {
		// A kernel that refuses leaves its default, which still works.
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout,
			int(unacknowledgedLimit.Milliseconds()))
	})
}
