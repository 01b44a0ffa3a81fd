package listen

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const canReusePort = true

func reusePort(_, _ string, conn syscall.RawConn) error {
	var failed error
	if err := conn.Control(func(fd uintptr) {
		failed = os.NewSyscallError("setsockopt SO_REUSEPORT", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	}); err != nil {
		return err
	}
	return failed
}

// listens reports whether a socket is listening.
func listens(file *os.File) bool {
	yes, err := unix.GetsockoptInt(int(file.Fd()), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && yes != 0
}

const (
	// handshakeTime is how long a TCP handshake under way may take: the longest round trip there
	// is, satellites included. It is shorter than the second after which a client repeats a dropped
	// SYN, because that repeated SYN must find the socket closed.
	handshakeTime = 800 * time.Millisecond
	// leavePoll is how often the length of the queue is read after that.
	leavePoll = time.Millisecond
)

// dropSYN is a BPF filter (socket(7), SO_ATTACH_FILTER) that drops segments with SYN and without
// ACK, which request a connection. The filter's input begins with the TCP header, whose byte 13 has
// the flags (RFC 9293 §3.1). Accepted connections inherit the filter, but never receive such
// segments.
var dropSYN = [...]unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13},
	{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x12},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0x02, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
}

// leave waits until the socket can be closed without losing a connection. With the first segment,
// the SYN, the kernel assigns a connection to one of the listening sockets, and it resets the
// connection if that socket is closed before the connection was accepted. (Unless the sysctl
// net.ipv4.tcp_migrate_req is set, which is up to the administrator.) So leave stops new SYNs,
// gives the handshakes under way time to complete, and waits for an empty queue.
//
// New connections are steered to the socket that joined the group last, which in a handover is the
// new process's. If that is this socket, or if another process joins or leaves at that moment, the
// filter drops the SYN; the client repeats it a second later, and it reaches another socket. So the
// filter alone prevents the loss of connections, and the steering only avoids the delay.
func (s *shared) leave(ctx context.Context) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	control := func(f func(fd int) error) error {
		var failed error
		if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
			return err
		}
		return failed
	}
	address, err := netip.ParseAddrPort(s.Addr().String())
	if err != nil {
		return err
	}
	sharing, err := listening(address)
	if err != nil {
		return err
	}
	if sharing < 2 {
		return nil // no other socket could take the connections
	}
	return control(func(fd int) error {
		if canDetach(fd) && steer(fd, sharing-1) == nil {
			defer unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
		}
		if err := attach(fd, unix.SO_ATTACH_FILTER, dropSYN[:]); err != nil {
			return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", err)
		}
		for pause := handshakeTime; ; pause = leavePoll {
			select {
			case <-ctx.Done():
				return errors.New("connections that were being made may be lost: there was no time to wait for them")
			case <-time.After(pause):
			}
			info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil {
				return os.NewSyscallError("getsockopt TCP_INFO", err)
			}
			if info.Unacked == 0 { // of a listening socket, the length of its queue
				return nil
			}
		}
	})
}

// canDetach reports whether the kernel can remove a steering program again (Linux 5.3). One that
// stayed would steer the connections of the processes that come later.
func canDetach(fd int) bool {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
	return err == nil || errors.Is(err, unix.ENOENT)
}

// steer sends all new connections to one of the sockets that share the address. The number of a
// socket is its position in the order in which they joined.
func steer(fd, socket int) error {
	return attach(fd, unix.SO_ATTACH_REUSEPORT_CBPF, []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: uint32(socket)}})
}

func attach(fd, option int, program []unix.SockFilter) error {
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, option, &unix.SockFprog{
		Len: uint16(len(program)), Filter: unsafe.SliceData(program),
	})
	runtime.KeepAlive(program)
	return err
}

// listening counts the sockets that listen at an address. It reads the kernel's table of TCP
// sockets (proc_net_tcp in the kernel's documentation), which has a line for each socket, the
// listening ones first, with a number, the local and the remote address, and the state.
func listening(address netip.AddrPort) (int, error) {
	name := "/proc/self/net/tcp"
	if address.Addr().Is6() {
		name += "6"
	}
	table, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer table.Close()
	const listen = "0A"
	local := fmt.Sprintf("%s:%04X", tableAddress(address.Addr()), address.Port())
	lines := bufio.NewScanner(table)
	lines.Scan() // the header
	n := 0
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != listen {
			break // the rest are connections, which may be many
		}
		if fields[1] == local {
			n++
		}
	}
	return n, lines.Err()
}

// tableAddress formats an address as that table does: words of four bytes in the machine's byte
// order.
func tableAddress(address netip.Addr) string {
	words := address.AsSlice()
	for i := 0; i < len(words); i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	return strings.ToUpper(hex.EncodeToString(words))
}
