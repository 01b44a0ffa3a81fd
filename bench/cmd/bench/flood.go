package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"time"

	"example.com/roster/bench/internal/flood"
	"example.com/roster/bench/internal/report"
)

func runFlood(ctx context.Context, arguments []string) error {
	var c common
	flags := flag.NewFlagSet("flood", flag.ContinueOnError)
	c.register(flags)
	duration := flags.Duration("duration", 10*time.Second, "how long one flood lasts, at most a minute, and the quiet before it")
	rounds := flags.Int("rounds", 5, "how often each server is measured")
	write := flags.Bool("write", true, "write the result into the page")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *duration > time.Minute {
		return fmt.Errorf("--duration %v: a flood lasts a minute at most", *duration)
	}
	end, err := c.init()
	if err != nil {
		return err
	}
	defer end()
	data := &report.FloodData{
		Header:   report.NewHeader(c.command, c.started.UTC().Format("2006-01-02 15:04 UTC"), c.setup.Python),
		Duration: *duration,
	}
	for range *rounds {
		for _, limited := range []bool{false, true} {
			var options []string
			into := &data.Unlimited
			if limited {
				options, into = []string{"--rate-limit", flood.RateLimit, "--rate-burst", flood.RateBurst}, &data.Limited
			}
			sample, err := flood.Measure(ctx, &c.setup, options, *duration, startCaller, startFlood)
			if err != nil {
				return err
			}
			say("limits %-5v  p50 quiet %v flood %v  p99 quiet %v flood %v (%.1fx)  failed %d of %d %s  flood: %d answered, %d refused, %d connections broken",
				limited, sample.QuietP50, sample.FloodP50, sample.QuietP99, sample.FloodP99, sample.Times(),
				sample.Failed, sample.Calls, sample.FirstError, sample.Count.Answered, sample.Count.Refused, sample.Count.Broken)
			*into = append(*into, sample)
		}
	}
	if !*write {
		return nil
	}
	if err := os.MkdirAll(c.docs, 0o755); err != nil {
		return err
	}
	return report.WriteFlood(c.docs, data)
}

// startFlood runs `bench flooder`, and returns what waits for its end.
func startFlood(ctx context.Context, addr string, d time.Duration) (func() (flood.Count, error), error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "flooder", "-addr", addr, "-duration", d.String())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() (count flood.Count, err error) {
		if err := cmd.Wait(); err != nil {
			return count, fmt.Errorf("the flood: %w\n%s", err, stderr.Bytes())
		}
		return count, json.Unmarshal(stdout.Bytes(), &count)
	}, nil
}

// runFlooder is the flood's process.
func runFlooder(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("flooder", flag.ContinueOnError)
	addr := flags.String("addr", "", "host:port to call")
	duration := flags.Duration("duration", time.Second, "how long to call, at most a minute")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, min(*duration, time.Minute))
	defer cancel()
	return json.NewEncoder(os.Stdout).Encode(flood.Run(ctx, *addr))
}
