// Command bench measures Roster against servers of the same service and data, each a process of its
// own on 127.0.0.1, and writes what it measured into docs/benchmarks.md. `make bench`, `make
// bench-bridge`, `make bench-attacks` and `make bench-flood` build what it needs and run it.
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

func run(ctx context.Context, arguments []string) error {
	if len(arguments) == 3 && arguments[0] == "caller" { // started by an attack
		duration, err := time.ParseDuration(arguments[2])
		return errors.Join(err, attack.Call(ctx, arguments[1], duration, os.Stdout))
	}
	section, r := strings.Join(arguments[:min(len(arguments), 1)], ""), measure.Run{Setup: new(peer.Setup), Say: say}
	defaults, ok := map[string]measure.Run{
		"bench":         {Rounds: 3, Duration: 1500 * time.Millisecond},
		"bench-bridge":  {Rounds: 3, Duration: 2 * time.Second},
		"bench-attacks": {Rounds: 1, Duration: 5 * time.Second},
		"bench-flood":   {Rounds: 5, Duration: 10 * time.Second},
	}[section]
	if !ok {
		return errors.New("usage: bench bench|bench-bridge|bench-attacks|bench-flood [flags]")
	}
	flags := flag.NewFlagSet(section, flag.ContinueOnError)
	command := flags.String("command", "bench "+strings.Join(arguments, " "), "the command that the page names")
	flags.IntVar(&r.Rounds, "rounds", defaults.Rounds, "how often every server is measured")
	flags.DurationVar(&r.Duration, "duration", defaults.Duration, "how long one load or one attack lasts, at most a minute")
	quick := flags.Bool("quick", false, "use smaller sizes, and say in the page that the run is not to be quoted")
	only := flags.String("only", "", "keys of the cases to measure, with commas between; by default all")
	servers := flags.String("servers", peer.Roster, "servers to attack, with commas between")
	if err := flags.Parse(arguments[1:]); err != nil {
		return err
	}
	if r.Duration > time.Minute {
		return fmt.Errorf("-duration %v: loads and attacks last at most a minute", r.Duration)
	}
	// Debian puts nginx where only root's PATH looks.
	err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
	if err != nil {
		return err
	}
	if r.Setup.Temp, err = os.MkdirTemp("", "roster-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.Setup.Temp)
	if err := r.Setup.Init(); err != nil {
		return err
	}
	r.PythonCalls, r.Connections, r.Rows = 4000, 10_000, 1_000_000
	if *quick {
		r.PythonCalls, r.Connections, r.Rows = 500, 2000, 100_000
	}
	cases, write := r.Table(), report.WriteRun
	switch section {
	case "bench":
	case "bench-bridge":
		cases, write = measure.ProxyTable(), report.WriteProxies
	default:
		cases, write = attack.Cases(strings.Split(*servers, ","), section == "bench-flood"), report.WriteAttacks
	}
	made := report.Made(*command)
	if *quick {
		made += "\n\n**A quick run**, made to see that everything runs. Its numbers are too few to quote."
	}
	if err := r.Do(ctx, cases, strings.FieldsFunc(*only, func(c rune) bool { return c == ',' })); err != nil {
		return err
	}
	err = errors.Join(write("docs", section, made, &r), r.Err())
	switch {
	case section == "bench-attacks":
		err = errors.Join(err, attack.Missed(&r))
	case section == "bench-bridge" && !*quick:
		err = errors.Join(err, report.MissedByBridge(&r))
	}
	return err
}
