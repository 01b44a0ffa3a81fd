// The runner of make conformance: independent test suites for the server and the Go client. Each
// must run its expected number of cases.
//
//	run DIR
//
// DIR holds the programs: roster, the server and client under test, connectconformance and h2spec.
// For a suite that passes it prints one line, for one that fails the whole output. The exit code is
// 1 if any failed.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: run DIR, where DIR holds the programs that make conformance builds")
		os.Exit(2)
	}
	programs, err := filepath.Abs(os.Args[1])
	if err == nil {
		err = run(ctx, programs, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// suite runs one test suite on the programs in a folder. It returns its numbers in a few words, its
// output, and an error if it failed.
type suite struct {
	name string
	run  func(ctx context.Context, programs string) (numbers, output string, err error)
}

func suites() []suite {
	return []suite{
		{"h2spec --strict, roster serve without TLS", h2specSuite{exceptions: cleartextExceptions}.run},
		{"h2spec --strict, roster serve with TLS", h2specSuite{tls: true}.run},
		{"connectrpc/conformance, server", connectSuite{
			mode: "server", config: "server.yaml", program: "server", cases: 5286,
		}.run},
		{"connectrpc/conformance, Go client", connectSuite{
			mode: "client", config: "client.yaml", program: "client", cases: 3052,
		}.run},
		{"connectrpc/conformance, bridge to a Python server", connectSuite{
			mode: "server", config: "bridge.yaml", program: "bridge", arguments: []string{"../build/venv/newest/bin/python", "bridge/upstream.py"}, cases: 1900,
		}.run},
	}
}

func run(ctx context.Context, programs string, stdout io.Writer) error {
	failed := 0
	for _, suite := range suites() {
		began := time.Now()
		numbers, output, err := suite.run(ctx, programs)
		took := time.Since(began).Round(time.Second)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failed++
			fmt.Fprintf(stdout, "%s\nFAILED  %s: %v (%v)\n", output, suite.name, err, took)
			continue
		}
		fmt.Fprintf(stdout, "%s: %s (%v)\n", suite.name, numbers, took)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d suites failed", failed, len(suites()))
	}
	return nil
}
