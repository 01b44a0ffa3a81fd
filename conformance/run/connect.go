package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// connectSuite runs connectrpc/conformance on one of our programs. There is no list of known
// failures.
type connectSuite struct {
	mode    string // "server" or "client": which the program is
	config  string // the file that says what the program can do
	program string
	// arguments are those of the program.
	arguments []string
	// cases is how many cases the suite has for that config. If a feature is removed from config,
	// its cases are not run, which must not count as success.
	cases int
}

func (s connectSuite) run(ctx context.Context, programs string) (numbers, output string, err error) {
	arguments := append([]string{"--mode", s.mode, "--conf", s.config, "--trace", "--", filepath.Join(programs, s.program)}, s.arguments...)
	command := exec.CommandContext(ctx, filepath.Join(programs, "connectconformance"), arguments...)
	// It gets a process group of its own, so that the servers that it started are stopped with it.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	said, err := command.CombinedOutput()
	output = string(said)
	if err != nil {
		return "", output, err
	}
	passed, err := s.judge(output)
	return fmt.Sprintf("%d of %d cases passed", passed, s.cases), output, err
}

var connectSummary = regexp.MustCompile(`(?m)^(\d+) passed, (\d+) failed$`)

// judge returns how many cases passed, by the summary.
func (s connectSuite) judge(output string) (passed int, err error) {
	found := connectSummary.FindStringSubmatch(output)
	if found == nil {
		return 0, errors.New("its output has no summary")
	}
	passed, _ = strconv.Atoi(found[1]) // the expression matches only digits
	switch {
	case found[2] != "0":
		return passed, fmt.Errorf("%s of %d cases failed", found[2], s.cases)
	case passed != s.cases:
		return passed, fmt.Errorf("%d cases passed, %d are expected: check that %s still lists every feature of the %s, then correct the number in conformance/run/main.go",
			passed, s.cases, s.config, s.program)
	}
	return passed, checkLog(output)
}

// checkLog fails if one of our programs passed every case but logged a data race or a panic.
func checkLog(output string) error {
	for _, sign := range []string{"DATA RACE", "panic"} {
		if strings.Contains(output, sign) {
			return fmt.Errorf("every case passed, but the log has a %s", sign)
		}
	}
	return nil
}
