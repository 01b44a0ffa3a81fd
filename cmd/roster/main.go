// Command roster serves the user directory and calls it.
//
// Every subcommand is one file of this package, with its help text inside it; `roster help` lists
// them. Its flags are a table of rows (flags.go); that of roster serve is serve_flags.go, and the
// parts of serving are in the other files serve_*.go. To add a flag is to add a row.
//
// Exit codes: 0 done, 1 failed, 2 wrong usage. Data goes to standard output, everything else to
// standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"example.com/roster/internal/printable"
	"example.com/roster/server/telemetry"
)

func main() {
	// The first signal ends the context, and the program winds down. The default action is restored
	// before that, so that a second signal ends the program at once. SIGHUP is what a terminal sends when it is closed; roster
	// serve takes it for another purpose where there is no terminal.
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, ends...)
	go func() {
		<-signals
		signal.Reset(os.Interrupt, syscall.SIGTERM)
		cancel()
	}()
	// Writing to a pipe whose reader has gone is an error like any other, and no reason to die.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, output{ctx, os.Stdout}, output{ctx, os.Stderr}))
}

// run is the whole program, so that tests can call it in their own process.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	stderr = cmd.ErrOrStderr()
	if queue, ok := stderr.(*telemetry.LogQueue); ok { // roster serve
		defer queue.Close(lastWrites)
	}
	switch {
	case err == nil:
		return 0
	case readerLeft(err):
		return 1
	}
	fmt.Fprintf(stderr, "roster: %s\n", printable.Lines(err.Error()))
	if wrong := (usageError{}); errors.As(err, &wrong) {
		fmt.Fprintf(stderr, "See '%s --help'.\n", cmd.CommandPath())
		return 2
	}
	return 1
}

// A usageError is an error in the command line itself: exit code 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// usage returns a usageError.
func usage(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}
