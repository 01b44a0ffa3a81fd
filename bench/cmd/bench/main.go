// Command bench measures Roster against servers of the same service and data,
// each a process of its own on 127.0.0.1, and writes what it measured into
// docs/benchmarks.md. `make bench`, `make bench-attacks` and `make soak` build
// what it needs and run it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"example.com/roster/bench/internal/peer"
)

// common is what every subcommand needs.
type common struct {
	setup   peer.Setup
	without map[string]string
	// docs is the folder of benchmarks.md, command what the page says makes it.
	docs, command string
	started       time.Time
}

func (c *common) register(flags *flag.FlagSet) {
	flags.StringVar(&c.setup.Peers, "peers", "build/bench", "folder of the peers written in Go")
	flags.StringVar(&c.setup.Roster, "roster", "bin/roster", "the roster binary")
	flags.StringVar(&c.setup.Tonic, "tonic", "build/bench/tonic", "the tonic peer; left out if it is not there")
	flags.StringVar(&c.setup.Python, "python", "build/venv/newest", "virtual environment with the Python peer; left out if it is not there")
	flags.StringVar(&c.setup.Users, "users", "examples/users.csv", "the users that the peers serve")
	flags.StringVar(&c.docs, "docs", "docs", "folder for benchmarks.md and benchmarks.svg")
	flags.StringVar(&c.command, "command", "", "the command that the page says makes its numbers")
}

// init makes the folder of the run and finds the peers; end removes the folder.
func (c *common) init() (end func(), err error) {
	c.started = time.Now()
	c.setup.Temp, err = os.MkdirTemp("", "roster-bench-")
	if err != nil {
		return nil, err
	}
	end = func() { os.RemoveAll(c.setup.Temp) }
	if c.without, err = c.setup.Init(); err != nil {
		end()
		return nil, err
	}
	for name, why := range c.without {
		say("without %s: %s", name, why)
	}
	return end, nil
}

func say(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		say("bench: %v", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	commands := map[string]func(context.Context, []string) error{
		"run":     runAll,
		"render":  render,
		"attacks": runAttacks,
		"soak":    runSoak,
		"caller":  runCaller,
		"flood":   runFlood,
		"flooder": runFlooder,
	}
	if len(arguments) > 0 {
		if command, ok := commands[arguments[0]]; ok {
			return command(ctx, arguments[1:])
		}
	}
	return fmt.Errorf("usage: bench run|render|attacks|flood|soak|caller|flooder [flags]")
}
