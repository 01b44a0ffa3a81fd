package dial

import (
	"syscall"
	"time"
)

// tcpUserTimeout is TCP_USER_TIMEOUT (tcp(7)), which package syscall lacks.
const tcpUserTimeout = 0x12

// unacknowledgedLimit is how long sent data may stay unacknowledged before the kernel closes the
// connection. It is gRPC's value. The kernel's default is a quarter of an hour, during which every
// call to a machine that disappeared would wait for its deadline on the dead connection. HTTP/2
// pings would find it too, but Python servers close a connection that pings often.
const unacknowledgedLimit = 20 * time.Second

func limitUnacknowledged(_, _ string, conn syscall.RawConn) error {
	return conn.Control(func(fd uintptr) {
		// If the kernel refuses, its default stays in force, which still works.
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout,
			int(unacknowledgedLimit.Milliseconds()))
	})
}
