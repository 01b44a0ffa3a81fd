package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"example.com/roster/bench/internal/calls"
	"example.com/roster/bench/internal/idle"
	"example.com/roster/bench/internal/importer"
	"example.com/roster/bench/internal/peer"
	"example.com/roster/bench/internal/python"
	"example.com/roster/bench/internal/report"
	"example.com/roster/bench/internal/stream"
)

// resultsFile keeps a run's numbers beside the peers, for `bench render`.
const resultsFile = "results.json"

type runFlags struct {
	common
	rounds      int
	duration    time.Duration
	quick       bool
	only        string
	cases       string
	servers     string
	pythonCalls int
	connections int
	rows        int
	generated   string
}

func parseRun(arguments []string) (*runFlags, error) {
	var f runFlags
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	f.register(flags)
	flags.IntVar(&f.rounds, "rounds", 3, "how often every server is measured")
	flags.DurationVar(&f.duration, "duration", 1500*time.Millisecond, "how long one load lasts")
	flags.BoolVar(&f.quick, "quick", false, "say in the page that the run is too short to be quoted")
	flags.StringVar(&f.only, "only", "", "parts to run, of calls, python, stream, idle, import, with commas between; by default all")
	flags.StringVar(&f.cases, "cases", "", "cases of calls to measure, by key, with commas between; by default all")
	flags.StringVar(&f.servers, "servers", "", "servers to measure in calls, the first of a case always, with commas between; by default all")
	flags.IntVar(&f.pythonCalls, "python-calls", 4000, "calls of each server that the Python client makes in a round")
	flags.IntVar(&f.connections, "connections", 10_000, "idle connections")
	flags.IntVar(&f.rows, "rows", 1_000_000, "rows of the file to import")
	flags.StringVar(&f.generated, "generated", "gen/python", "folder of the contract's generated Python code")
	return &f, flags.Parse(arguments)
}

// runAll measures everything but attacks and soaks, and writes the page. A
// part that fails is told in the page, and the command fails in the end.
func runAll(ctx context.Context, arguments []string) error {
	f, err := parseRun(arguments)
	if err != nil {
		return err
	}
	end, err := f.init()
	if err != nil {
		return err
	}
	defer end()
	data := &report.Data{
		Header:          report.NewHeader(f.command, f.started.UTC().Format("2006-01-02 15:04 UTC"), f.setup.Python),
		Rounds:          f.rounds,
		Duration:        f.duration,
		Quick:           f.quick,
		Without:         f.without,
		NoTLS:           !f.setup.HasFlag("--tls-cert"),
		PythonCalls:     f.pythonCalls,
		IdleConnections: f.connections,
		Calls:           &calls.Results{},
	}
	var failed []string
	for _, part := range f.parts(data) {
		if f.only != "" && !strings.Contains(","+f.only+",", ","+part.name+",") {
			continue
		}
		began := time.Now()
		if err := part.run(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			say("FAILED %s: %v", part.name, err)
			failed = append(failed, part.name+": "+err.Error())
		}
		say("%s took %v", part.name, time.Since(began).Round(time.Second))
	}
	data.Calls.Failures = append(data.Calls.Failures, failed...)
	text, err := json.MarshalIndent(data, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(f.setup.Peers, resultsFile), text, 0o644); err != nil {
		return err
	}
	if err := f.write(data); err != nil {
		return err
	}
	if n := len(data.Calls.Failures); n > 0 {
		return fmt.Errorf("%d measurements failed, the first: %s", n, data.Calls.Failures[0])
	}
	return nil
}

func (f *runFlags) write(data *report.Data) error {
	if err := os.MkdirAll(f.docs, 0o755); err != nil {
		return err
	}
	if err := report.WriteRun(f.docs, data); err != nil {
		return err
	}
	say("wrote %s after %v", filepath.Join(f.docs, "benchmarks.md"), time.Since(f.started).Round(time.Second))
	return nil
}

type part struct {
	name string
	run  func(context.Context) error
}

// selected is the cases and peers that the flags name.
func (f *runFlags) selected(cases []calls.Case) []calls.Case {
	named := func(list, name string) bool {
		return list == "" || strings.Contains(","+list+",", ","+name+",")
	}
	cases = slices.DeleteFunc(cases, func(c calls.Case) bool { return !named(f.cases, c.Key) })
	for i, c := range cases {
		cases[i].Peers = slices.DeleteFunc(slices.Clone(c.Peers), func(name string) bool {
			return name != c.Base() && !named(f.servers, name)
		})
	}
	return cases
}

func (f *runFlags) parts(data *report.Data) []part {
	return []part{
		{"calls", func(ctx context.Context) error {
			run := calls.Run{Setup: &f.setup, Without: f.without, Rounds: f.rounds, Duration: f.duration, Say: say}
			results, err := run.Measure(ctx, f.selected(calls.Cases(!data.NoTLS)))
			if err == nil {
				data.Calls = results
			}
			return err
		}},
		{"python", func(ctx context.Context) (err error) {
			if f.without[peer.Python] != "" {
				return nil
			}
			data.Python, err = python.Measure(ctx, &f.setup, f.without, f.generated, f.rounds, f.pythonCalls)
			return err
		}},
		{"stream", func(ctx context.Context) (err error) {
			data.Stream, err = stream.Measure(ctx, &f.setup, f.without, f.rounds, f.duration)
			return err
		}},
		{"idle", func(ctx context.Context) (err error) {
			data.Idle, err = idle.Measure(ctx, &f.setup, f.without, f.connections)
			return err
		}},
		{"import", func(ctx context.Context) (err error) {
			data.Import, err = importer.Measure(ctx, f.setup.Roster, f.setup.Temp, f.rows, f.rounds)
			return err
		}},
		{"engine", func(ctx context.Context) error {
			if _, err := os.Stat("server/h2"); err != nil {
				return nil // this Roster has no engine of its own
			}
			out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".", "-benchmem",
				"-benchtime", f.duration.String(), "./server/h2").CombinedOutput()
			if err != nil {
				return fmt.Errorf("go test -bench: %w\n%s", err, out)
			}
			if strings.Contains(string(out), "Benchmark") {
				data.Engine = string(out)
			}
			return nil
		}},
	}
}

// render writes the page again from the numbers of the last run.
func render(_ context.Context, arguments []string) error {
	f, err := parseRun(arguments)
	if err != nil {
		return err
	}
	f.started = time.Now()
	text, err := os.ReadFile(filepath.Join(f.setup.Peers, resultsFile))
	if err != nil {
		return err
	}
	var data report.Data
	if err := json.Unmarshal(text, &data); err != nil {
		return err
	}
	return f.write(&data)
}
