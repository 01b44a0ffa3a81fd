package main

import "example.com/roster/server"

// options are the choices of `roster serve` that the peer offers too.
type options struct{}

func registerOptions() *options { return &options{} }

func (*options) apply(*server.Config) {}
