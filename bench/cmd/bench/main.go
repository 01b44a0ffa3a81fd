// Command bench measures Roster against servers of the same service and data, each a process of its
// own on 127.0.0.1, and writes what it measured into docs/benchmarks.md. `make bench`, `make
// bench-attacks` and `make bench-flood` build what it needs and run it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"example.com/roster/bench/internal/attack"
	"example.com/roster/bench/internal/measure"
	"example.com/roster/bench/internal/peer"
	"example.com/roster/bench/internal/report"
)

func say(format string, arguments ...any) { fmt.Fprintf(os.Stderr, format+"\n", arguments...) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		say("bench: %v", err)
		stop()
		os.Exit(1)
	}
}

// options are the flags; what a subcommand does not need has no effect on it.
type options struct {
	setup         peer.Setup
	command       string
	rounds        int
	duration      time.Duration
	quick, flood  bool
	only, servers string
}

func run(ctx context.Context, arguments []string) error {
	usage := errors.New("usage: bench run|attacks|flood [flags]")
	if len(arguments) == 0 {
		return usage
	}
	if arguments[0] == "caller" && len(arguments) == 3 { // started by attacks and flood
		duration, err := time.ParseDuration(arguments[2])
		return errors.Join(err, attack.Call(ctx, arguments[1], duration, os.Stdout))
	}
	o := options{flood: arguments[0] == "flood"}
	command, rounds, duration := runAttacks, 1, 5*time.Second
	switch arguments[0] {
	case "attacks":
	case "flood":
		rounds, duration = 5, 10*time.Second
	case "run":
		command, rounds, duration = runCases, 3, 1500*time.Millisecond
	default:
		return usage
	}
	flags := flag.NewFlagSet("bench "+arguments[0], flag.ContinueOnError)
	flags.StringVar(&o.command, "command", "bench "+strings.Join(arguments, " "), "the command that the page names")
	flags.IntVar(&o.rounds, "rounds", rounds, "how often every server is measured")
	flags.DurationVar(&o.duration, "duration", duration, "how long one load or one attack lasts, at most a minute")
	flags.BoolVar(&o.quick, "quick", false, "use smaller sizes, and say in the page that the run is not to be quoted")
	flags.StringVar(&o.only, "only", "", "keys of the cases, with commas between; by default all")
	flags.StringVar(&o.servers, "servers", peer.Roster, "servers to attack, with commas between")
	if err := flags.Parse(arguments[1:]); err != nil {
		return err
	}
	if o.duration > time.Minute {
		return fmt.Errorf("--duration %v: loads and attacks last at most a minute", o.duration)
	}
	// Debian puts nginx where only root's PATH looks.
	err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
	if err != nil {
		return err
	}
	if o.setup.Temp, err = os.MkdirTemp("", "roster-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.setup.Temp)
	if err := o.setup.Init(); err != nil {
		return err
	}
	return command(ctx, &o)
}

func runCases(ctx context.Context, o *options) error {
	made := report.Made(o.command)
	r := &measure.Run{Setup: &o.setup, Rounds: o.rounds, Duration: o.duration, PythonCalls: 4000, Connections: 10_000, Rows: 1_000_000, Say: say}
	if o.quick {
		r.PythonCalls, r.Connections, r.Rows = 500, 2000, 100_000
	}
	if err := r.Do(ctx, list(o.only)); err != nil {
		return err
	}
	if err := report.WriteRun("docs", made, report.Versions(), o.quick, r); err != nil {
		return err
	}
	if n := len(r.Failures); n > 0 {
		return fmt.Errorf("%d measurements failed, the first: %s", n, r.Failures[0])
	}
	return nil
}

func runAttacks(ctx context.Context, o *options) error {
	section, attacks := "bench-attacks", attack.All()
	if o.flood {
		section, attacks = "bench-flood", attack.Floods()
	}
	made := report.Made(o.command)
	d := report.Attacks{Duration: o.duration, Count: o.rounds, Servers: list(o.servers), Attacks: attacks, Rounds: make(map[string]map[string][]attack.Result)}
	for range o.rounds {
		for _, name := range d.Servers {
			if d.Rounds[name] == nil {
				d.Rounds[name] = make(map[string][]attack.Result)
			}
			for _, a := range attacks {
				result, err := attack.Measure(ctx, &o.setup, name, a, o.duration)
				if err != nil {
					return fmt.Errorf("%s on %s: %w", a.Key, name, err)
				}
				say("%-14s %-19s %+v", name, a.Key, result)
				d.Rounds[name][a.Key] = append(d.Rounds[name][a.Key], result)
			}
		}
	}
	return d.Write("docs", section, made)
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}
