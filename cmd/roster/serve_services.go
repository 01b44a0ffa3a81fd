package main

import "github.com/spf13/pflag"

// servicesFlags are the flags of the services that every gRPC server has.
type servicesFlags struct {
	maxWatches int
}

func (f *servicesFlags) register(flags *pflag.FlagSet) {
	flags.IntVar(&f.maxWatches, "max-watches", 10_000, "most calls that may follow the server's health at a time (grpc.health.v1 Watch)")
}

func (f *servicesFlags) check() error {
	if f.maxWatches < 1 {
		return usage("--max-watches %d: must be at least 1", f.maxWatches)
	}
	return nil
}
