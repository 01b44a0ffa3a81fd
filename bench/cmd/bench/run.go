package main

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"time"

	"example.com/roster/bench/internal/calls"
)

func runAll(ctx context.Context, arguments []string) error {
	var c common
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	c.register(flags)
	rounds := flags.Int("rounds", 3, "how often every peer is measured")
	duration := flags.Duration("duration", 1500*time.Millisecond, "how long one load lasts")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	end, err := c.init()
	if err != nil {
		return err
	}
	defer end()
	run := calls.Run{Setup: &c.setup, Without: c.without, Rounds: *rounds, Duration: *duration, Say: say}
	results, err := run.Measure(ctx, calls.Cases(c.setup.HasFlag("--tls-cert")))
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(results)
}
