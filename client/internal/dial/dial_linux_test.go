package dial

import (
	"net"
	"syscall"
	"testing"
	"time"
)

func TestAConnectionToAMachineThatVanishedIsGivenUp(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := Dialer().DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var milliseconds int
	controlErr := raw.Control(func(fd uintptr) {
		milliseconds, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout)
	})
	if controlErr != nil || err != nil {
		t.Fatal(controlErr, err)
	}
	if got := time.Duration(milliseconds) * time.Millisecond; got != unacknowledgedLimit {
		t.Errorf("TCP_USER_TIMEOUT is %v, want %v", got, unacknowledgedLimit)
	}
}
