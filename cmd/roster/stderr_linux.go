package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// ownStandardError returns a file for the log, which writes where standard error does. What remains
// of standard error, descriptor 2, then never waits for the reader of a pipe. Go's runtime writes
// there by itself when the program dies of a panic or of SIGQUIT, and if nobody read the pipe it would
// neither die nor serve.
//
// The flag O_NONBLOCK cannot simply be set, since it belongs to the pipe's end and so to every process
// that shares it. Opening the pipe once more by its name in /proc makes an end of its own. Where that
// is not possible, or standard error is no pipe, everything stays as it is.
func ownStandardError(file *os.File) *os.File {
	const standardError = 2
	var stat unix.Stat_t
	if int(file.Fd()) != standardError || unix.Fstat(standardError, &stat) != nil || stat.Mode&unix.S_IFMT != unix.S_IFIFO {
		return file
	}
	own, err := unix.FcntlInt(standardError, unix.F_DUPFD_CLOEXEC, standardError+1)
	if err != nil {
		return file
	}
	again, err := unix.Open("/proc/self/fd/2", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(own)
		return file
	}
	defer unix.Close(again)
	if err := unix.Dup3(again, standardError, 0); err != nil {
		unix.Close(own)
		return file
	}
	return os.NewFile(uintptr(own), file.Name())
}
