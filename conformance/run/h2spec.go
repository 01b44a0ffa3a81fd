package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// h2specCases is how many cases h2spec 2.2.1 has with --strict.
const h2specCases = 146

// exception is a case that is known to fail, and why. No other case may fail, and an exception that
// passes has to be removed from its list.
type exception struct{ section, title, reason string }

// cleartextExceptions are those of the port without TLS. With TLS there are none, because ALPN has
// already chosen HTTP/2.
var cleartextExceptions = []exception{
	{"http2/3.5", "Sends invalid connection preface",
		"The port serves HTTP/1.1 too. A preface that is not HTTP/2's is a malformed HTTP/1.1 request, which is answered with status 400 before the connection is closed; h2spec expects no byte at all."},
}

// h2specSuite runs h2spec on the binary. It requests the page at /.
type h2specSuite struct {
	tls        bool
	exceptions []exception
}

func (s h2specSuite) run(ctx context.Context, programs string) (numbers, output string, err error) {
	folder, err := os.MkdirTemp("", "roster-h2spec-")
	if err != nil {
		return "", "", err
	}
	defer os.RemoveAll(folder)
	var flags, specFlags []string
	if s.tls {
		cert, key, err := writeCertificate(folder)
		if err != nil {
			return "", "", err
		}
		flags = []string{"--tls-cert", cert, "--tls-key", key}
		specFlags = []string{"--tls", "--insecure"}
	}
	roster, err := serve(ctx, filepath.Join(programs, "roster"), filepath.Join(folder, "roster.db"), flags...)
	if err != nil {
		return "", "", err
	}
	defer func() {
		err = errors.Join(err, roster.stop())
		output += roster.log.String()
		if err == nil {
			err = checkLog(roster.log.String())
		}
	}()
	host, port, err := net.SplitHostPort(roster.address)
	if err != nil {
		return "", "", err
	}
	reportFile := filepath.Join(folder, "report.xml")
	// It exits with 1 if any case failed; the report says which.
	said, exit := exec.CommandContext(ctx, filepath.Join(programs, "h2spec"), append(specFlags,
		"--strict", "--host", host, "--port", port, "--path", "/", "--junit-report", reportFile)...).CombinedOutput()
	report, err := os.ReadFile(reportFile)
	if err != nil {
		return "", string(said), fmt.Errorf("no report: %w", errors.Join(exit, err))
	}
	passed, err := s.judge(report)
	return fmt.Sprintf("%d of %d cases passed, %d excused in conformance/run/h2spec.go",
		passed, h2specCases, len(s.exceptions)), string(said), err
}

// judge returns how many cases of a JUnit report passed. It fails unless exactly the exceptions
// failed.
func (s h2specSuite) judge(report []byte) (passed int, err error) {
	var suites struct {
		Suites []struct {
			Section string `xml:"package,attr"`
			Cases   []struct {
				Title   string    `xml:"classname,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
				Skipped *struct{} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	decoder := xml.NewDecoder(bytes.NewReader(report))
	decoder.Strict = false // h2spec does not escape the text that servers send
	if err := decoder.Decode(&suites); err != nil {
		return 0, fmt.Errorf("read the report: %w", err)
	}
	failed := map[string]bool{}
	var problems []string
	total := 0
	for _, section := range suites.Suites {
		for _, one := range section.Cases {
			total++
			name := section.Section + " " + one.Title
			switch {
			case one.Skipped != nil:
				problems = append(problems, "skipped: "+name)
			case one.Failure != nil || one.Error != nil:
				failed[name] = true
			default:
				passed++
			}
		}
	}
	if total != h2specCases {
		problems = append(problems, fmt.Sprintf("%d cases were run, not %d", total, h2specCases))
	}
	for _, exception := range s.exceptions {
		name := exception.section + " " + exception.title
		if !failed[name] {
			problems = append(problems, "an exception passed: remove it from conformance/run/h2spec.go: "+name)
		}
		delete(failed, name)
	}
	for name := range failed {
		problems = append(problems, "failed: "+name)
	}
	if len(problems) > 0 {
		return passed, errors.New(strings.Join(problems, "\n        "))
	}
	return passed, nil
}

// rosterProcess is a running `roster serve`.
type rosterProcess struct {
	command *exec.Cmd
	address string
	log     strings.Builder // to be read after the process has stopped
	logged  chan struct{}   // closed when the log has ended
}

// serve starts the binary with the sample users, on a free port.
func serve(ctx context.Context, binary, store string, flags ...string) (*rosterProcess, error) {
	p := &rosterProcess{logged: make(chan struct{})}
	p.command = exec.CommandContext(ctx, binary, append([]string{"serve", "--addr", "127.0.0.1:0", "--store", store, "--sample",
		"--drain-timeout", "10s", "--log-format", "json"}, flags...)...)
	stderr, err := p.command.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	addresses := make(chan string, 1)
	go func() {
		defer close(p.logged)
		defer close(addresses)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			p.log.WriteString(lines.Text() + "\n")
			var line struct{ Msg, Address string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
				addresses <- line.Address
			}
		}
	}()
	if p.address = <-addresses; p.address == "" {
		return nil, fmt.Errorf("it did not start (%v):\n%s", p.stop(), p.log.String())
	}
	return p, nil
}

// stop drains the server. It fails unless the server exits with 0.
func (p *rosterProcess) stop() error {
	// If the process has already ended, Wait reports it.
	_ = p.command.Process.Signal(syscall.SIGTERM)
	<-p.logged
	if err := p.command.Wait(); err != nil {
		return fmt.Errorf("roster serve: %w", err)
	}
	return nil
}
