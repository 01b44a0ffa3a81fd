package process

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is what utime and stime count in: USER_HZ is 100 on every Linux that
// Go runs on.
const tick = 10 * time.Millisecond

// CPU returns the user and system time that the process and its children have
// taken.
func (s *Server) CPU() (time.Duration, error) {
	var total time.Duration
	for _, pid := range tree(s.PID) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		// The name in parentheses may have spaces; utime and stime are the
		// 12th and 13th field after it.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		for _, field := range fields[11:13] {
			ticks, err := strconv.ParseInt(string(field), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
			}
			total += time.Duration(ticks) * tick
		}
	}
	return total, nil
}

// Memory returns the resident memory of the process and its children in bytes,
// a page that several of them share counted once (PSS).
func (s *Server) Memory() (int64, error) {
	var total int64
	for _, pid := range tree(s.PID) {
		bytes, err := kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
		if err != nil {
			return 0, err
		}
		total += bytes
	}
	return total, nil
}

// RSS returns the resident memory of the process alone in bytes. It is cheaper
// to read than Memory.
func (s *Server) RSS() (int64, error) {
	return kilobytes(fmt.Sprintf("/proc/%d/status", s.PID), "VmRSS:")
}

// PeakRSS returns the most that a process has had resident, in bytes. The
// rusage of an ended process does not tell: it begins with what its parent had.
func PeakRSS(pid int) (int64, error) {
	return kilobytes(fmt.Sprintf("/proc/%d/status", pid), "VmHWM:")
}

// Threads returns how many threads the process has.
func (s *Server) Threads() (int, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", s.PID))
	return len(tasks), err
}

// Files returns how many file descriptors the process has open.
func (s *Server) Files() (int, error) {
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.PID))
	return len(files), err
}

// kilobytes reads one line of the form "Name:  123 kB".
func kilobytes(file, name string) (int64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == name {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, name)
}

// tree returns a process and all that it started. A process that has ended is
// left out, as its own end is for the caller to see.
func tree(pid int) []int {
	pids := []int{pid}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return pids
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, tree(child)...)
			}
		}
	}
	return pids
}
