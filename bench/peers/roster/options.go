package main

import (
	"flag"

	"example.com/roster/server"
)

// options are the choices of `roster serve` that the peer offers too.
type options struct{ http2 string }

func registerOptions() *options {
	var o options
	flag.StringVar(&o.http2, "http2", "fast", "HTTP/2 engine: fast or std")
	return &o
}

func (o *options) apply(config *server.Config) { config.StandardHTTP2 = o.http2 == "std" }
