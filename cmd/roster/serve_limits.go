package main

import (
	"math"
	"time"

	"github.com/spf13/pflag"

	"example.com/roster/server"
)

// limitFlags bound what callers may do, together and each.
type limitFlags struct {
	maxDeadline        time.Duration
	maxConcurrentCalls int
	rateLimit          float64
	rateBurst          int
}

func (f *limitFlags) register(flags *pflag.FlagSet) {
	flags.DurationVar(&f.maxDeadline, "max-deadline", time.Minute, "longest that a call may take, whatever its client's deadline; not for streams")
	flags.IntVar(&f.maxConcurrentCalls, "max-concurrent-calls", 10_000, "most calls at a time, those beyond are refused; not for health and reflection")
	flags.Float64Var(&f.rateLimit, "rate-limit", 0, "most calls a second of one token, certificate or else address; 0 is no limit")
	flags.IntVar(&f.rateBurst, "rate-burst", 0, "how many of those at once; 0 is as many as --rate-limit")
}

func (f *limitFlags) check() error {
	switch {
	case f.maxDeadline <= 0:
		return usage("--max-deadline %v: must be more than 0", f.maxDeadline)
	case f.maxConcurrentCalls < 1:
		return usage("--max-concurrent-calls %d: must be at least 1", f.maxConcurrentCalls)
	case !(f.rateLimit >= 0) || math.IsInf(f.rateLimit, 0):
		return usage("--rate-limit %v: must be 0, which is no limit, or more", f.rateLimit)
	case f.rateLimit > 0 && f.rateLimit < 0.001:
		return usage("--rate-limit %v: is less than a call in a quarter of an hour", f.rateLimit)
	case f.rateBurst < 0:
		return usage("--rate-burst %d: must be 0, which is as many as --rate-limit, or more", f.rateBurst)
	case f.rateBurst > 0 && f.rateLimit == 0:
		return usage("--rate-burst %d: needs --rate-limit", f.rateBurst)
	}
	return nil
}

func (f *limitFlags) apply(config *server.Config) {
	config.MaxDeadline, config.MaxConcurrentCalls = f.maxDeadline, f.maxConcurrentCalls
	config.RateLimit, config.RateBurst = f.rateLimit, f.rateBurst
}
