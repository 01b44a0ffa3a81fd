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

// listens tells whether a socket does.
func listens(file *os.File) bool {
	yes, err := unix.GetsockoptInt(int(file.Fd()), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && yes != 0
}

const (
	// handshakeTime is how long a connection that a client has begun to make
	// may take to come about: the longest round trip there is, by satellite and
	// all. It is below the second after which a client repeats a SYN that was
	// dropped, since that one must find the socket closed.
	handshakeTime = 800 * time.Millisecond
	// leavePoll is how often the queue is looked at after that.
	leavePoll = time.Millisecond
)

// dropSYN is a filter (BPF, see socket(7) SO_ATTACH_FILTER) that drops segments
// with SYN and without ACK, which ask for a connection. A filter sees TCP's
// header first, and byte 13 of that has the flags (RFC 9293 §3.1). Connections
// inherit it, to which it makes no difference.
var dropSYN = [...]unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13},
	{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x12},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0x02, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
}

// leave waits until the socket can be closed without a loss. The kernel ties a
// connection to one of the listening sockets with its first segment, the SYN,
// and resets it if that socket is closed before it has been accepted. (Unless
// the sysctl net.ipv4.tcp_migrate_req is set, which is not ours to do.) So
// there must be no more SYNs, time for the handshakes under way, and an empty
// queue.
//
// New connections are steered to the socket that joined last, which in a
// handover is the new process's. Should that be ours, or another process come
// or go in that moment, the filter drops the SYN, and the client's second one, a
// second later, finds another socket. So the steering spares a delay; that
// nothing is lost is the filter's doing.
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
		return nil // nobody to leave connections to
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

// canDetach tells whether the kernel can take a steering program off again
// (Linux 5.3). Without it one would stay, to the harm of the next process.
func canDetach(fd int) bool {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
	return err == nil || errors.Is(err, unix.ENOENT)
}

// steer has the sockets that share the address leave all new connections to
// one of them, counted in the order in which they joined.
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

// listening counts the sockets that listen at an address. It reads the kernel's
// table of TCP sockets (proc_net_tcp in the kernel's documentation), which has
// those first: a line each with a number, local and remote address, and state.
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
	lines.Scan() // the head
	n := 0
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != listen {
			break // the rest may be long
		}
		if fields[1] == local {
			n++
		}
	}
	return n, lines.Err()
}

// tableAddress is an address as that table has it: words of four bytes in
// the byte order of the machine.
func tableAddress(address netip.Addr) string {
	words := address.AsSlice()
	for i := 0; i < len(words); i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	return strings.ToUpper(hex.EncodeToString(words))
}
