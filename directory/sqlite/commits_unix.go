//go:build unix

package sqlite

import (
	"encoding/binary"
	"syscall"
)

// The index of the log, the file "-shm", begins with two copies of a header. Each has at commitsAt the number
// of transactions that were committed, in the machine's order of bytes (sqlite.org/walformat.html, iChange).
const (
	indexHeader = 48
	commitsAt   = 8
)

// openIndex opens the index of the log at path. It is never closed: the locks of SQLite on a file end, for the
// whole process, when the process closes any descriptor of it. A process opens a store once, and again when
// another file takes its place.
func openIndex(path string) (descriptor int, ok bool) {
	descriptor, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	return descriptor, err == nil
}

// readCommits returns how many transactions were committed. It fails while one is being committed.
func readCommits(descriptor int) (commits uint32, ok bool) {
	var header [2 * indexHeader]byte
	n, err := syscall.Pread(descriptor, header[:], 0)
	if err != nil || n < len(header) || [indexHeader]byte(header[:]) != [indexHeader]byte(header[indexHeader:]) {
		return 0, false
	}
	return binary.NativeEndian.Uint32(header[commitsAt:]), true
}
