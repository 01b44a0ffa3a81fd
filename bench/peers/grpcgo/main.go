// Command grpcgo is the grpc-go peer: the contract and the stream on
// grpc.NewServer, with its defaults or, by --tuned, with the options that make
// it cheaper.
package main

import (
	"flag"
	"log"
	"runtime"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"example.com/roster/bench/gen/apipb"
	"example.com/roster/bench/gen/tickerpb"
	"example.com/roster/bench/internal/grpcserver"
	"example.com/roster/bench/internal/peerflags"
)

func main() {
	common := peerflags.Register()
	tuned := flag.Bool("tuned", false, "use the options that make grpc-go cheaper")
	flag.Parse()
	if err := run(common, *tuned); err != nil {
		log.Fatal(err)
	}
}

func run(common *peerflags.Flags, tuned bool) error {
	var options []grpc.ServerOption
	if tuned {
		options = append(options,
			grpc.NumStreamWorkers(uint32(runtime.GOMAXPROCS(0))),
			// Fixed windows: no pings to estimate the bandwidth.
			grpc.StaticStreamWindowSize(1<<20),
			grpc.StaticConnWindowSize(1<<20),
		)
	}
	tls, err := common.TLS()
	if err != nil {
		return err
	}
	if tls != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(tls)))
	}
	directory, err := grpcserver.NewDirectory()
	if err != nil {
		return err
	}
	listener, err := common.Listen()
	if err != nil {
		return err
	}
	server := grpc.NewServer(options...)
	apipb.RegisterMyServiceServer(server, directory)
	tickerpb.RegisterTickerServiceServer(server, grpcserver.Ticker{})
	return server.Serve(listener)
}
