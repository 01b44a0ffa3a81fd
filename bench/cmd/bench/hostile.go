package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"example.com/roster/bench/internal/attack"
	"example.com/roster/bench/internal/report"
	"example.com/roster/bench/internal/soak"
)

func runAttacks(ctx context.Context, arguments []string) error {
	var c common
	flags := flag.NewFlagSet("attacks", flag.ContinueOnError)
	c.register(flags)
	names := flags.String("servers", "roster", "servers to attack, with commas between")
	only := flags.String("only", "", "attacks to make, by key, with commas between; by default all")
	duration := flags.Duration("duration", 5*time.Second, "how long one attack lasts, at most a minute")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *duration > time.Minute {
		return fmt.Errorf("--duration %v: an attack lasts a minute at most", *duration)
	}
	end, err := c.init()
	if err != nil {
		return err
	}
	defer end()
	data := &report.AttackData{
		Header:   report.NewHeader(c.command, c.started.UTC().Format("2006-01-02 15:04 UTC"), c.setup.Python),
		Duration: *duration,
		Results:  make(map[string][]attack.Result),
	}
	for name := range strings.SplitSeq(*names, ",") {
		if why := c.without[name]; why != "" {
			continue
		}
		data.Peers = append(data.Peers, name)
		for _, a := range attack.All() {
			if *only != "" && !strings.Contains(","+*only+",", ","+a.Key+",") {
				continue
			}
			result, err := attack.Measure(ctx, &c.setup, name, a, *duration, startCaller)
			if err != nil {
				return fmt.Errorf("%s on %s: %w", a.Key, name, err)
			}
			say("%-14s %-19s growth %7.1f MB  cut off %6d  failed %d of %d  p50 quiet %v after %v  p99 quiet %v under attack %v %s", name, a.Key,
				float64(result.Growth)/1e6, result.Reconnects, result.Caller.Failed, result.Caller.Calls,
				result.Caller.QuietP50, result.Caller.AfterP50, result.Caller.QuietP99, result.Caller.DuringP99, result.Caller.FirstError)
			data.Results[name] = append(data.Results[name], result)
		}
	}
	if err := os.MkdirAll(c.docs, 0o755); err != nil {
		return err
	}
	return report.WriteAttacks(c.docs, data)
}

// startCaller runs `bench caller`, and returns what waits for its end.
func startCaller(ctx context.Context, addr string, d time.Duration) (func() ([]attack.Call, error), error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "caller", "-addr", addr, "-duration", d.String())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() ([]attack.Call, error) {
		if err := cmd.Wait(); err != nil {
			return nil, fmt.Errorf("the well-behaved caller: %w\n%s", err, stderr.Bytes())
		}
		var calls []attack.Call
		return calls, json.Unmarshal(stdout.Bytes(), &calls)
	}, nil
}

// runCaller is the well-behaved caller's process.
func runCaller(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("caller", flag.ContinueOnError)
	addr := flags.String("addr", "", "host:port to call")
	duration := flags.Duration("duration", time.Second, "how long to call")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	calls, err := attack.Calls(ctx, *addr, *duration)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(calls)
}

func runSoak(ctx context.Context, arguments []string) error {
	var c common
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	c.register(flags)
	duration := flags.Duration("duration", 30*time.Minute, "how long the load lasts")
	write := flags.Bool("write", true, "write the result into the page")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	end, err := c.init()
	if err != nil {
		return err
	}
	defer end()
	header := report.NewHeader(c.command, c.started.UTC().Format("2006-01-02 15:04 UTC"), c.setup.Python)
	result, err := soak.Run(ctx, &c.setup, *duration, say)
	if err != nil {
		return err
	}
	if *write {
		if err := os.MkdirAll(c.docs, 0o755); err != nil {
			return err
		}
		if err := report.WriteSoak(c.docs, header, result); err != nil {
			return err
		}
	}
	for name, count := range result.Done {
		say("%9d %s", count, name)
	}
	if leaks := result.Leaks(); len(leaks) > 0 {
		return fmt.Errorf("soak of %v: %s", *duration, strings.Join(leaks, "; "))
	}
	say("soak of %v: nothing is left", *duration)
	return nil
}
