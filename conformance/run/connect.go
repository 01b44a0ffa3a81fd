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

// connectSuite is connectrpc/conformance on one program of ours. There is no
// list of known failures.
type connectSuite struct {
	mode    string // what the program is, in the suite's terms
	config  string // the file that says what the program can do
	program string
	// cases is how many the suite has for that: a feature that went missing
	// from config, and its cases with it, is no success.
	cases int
}

func (s connectSuite) run(ctx context.Context, programs string) (numbers, output string, err error) {
	command := exec.CommandContext(ctx, filepath.Join(programs, "connectconformance"),
		"--mode", s.mode, "--conf", s.config, "--trace", "--", filepath.Join(programs, s.program))
	// A group of its own, so that the servers it started end with it.
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

// judge is how many cases passed, by the summary.
func (s connectSuite) judge(output string) (passed int, err error) {
	found := connectSummary.FindStringSubmatch(output)
	if found == nil {
		return 0, errors.New("its summary is not there")
	}
	passed, _ = strconv.Atoi(found[1]) // the expression has digits alone
	switch {
	case found[2] != "0":
		return passed, fmt.Errorf("%s of %d cases failed", found[2], s.cases)
	case passed != s.cases:
		return passed, fmt.Errorf("%d cases passed, %d are expected: see that %s still says all that the %s can do, then correct the number in conformance/run/main.go",
			passed, s.cases, s.config, s.program)
	}
	return passed, complaint(output)
}

// complaint is an error if a program of ours passed every case and yet said
// that something is wrong with it.
func complaint(output string) error {
	for _, sign := range []string{"DATA RACE", "panic"} {
		if strings.Contains(output, sign) {
			return fmt.Errorf("every case passed, but the log has a %s", sign)
		}
	}
	return nil
}
