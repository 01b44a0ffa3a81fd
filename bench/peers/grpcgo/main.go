// Command grpcgo is the grpc-go peer: the contract and the stream on grpc.NewServer, with its
// defaults or, with --tuned, with the options that make it cheaper.
package main

import (
	"crypto/tls"
	"flag"
	"net"
	"runtime"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"example.com/roster/bench/gen/apipb"
	"example.com/roster/bench/gen/tickerpb"
	"example.com/roster/bench/internal/grpcserver"
	"example.com/roster/bench/internal/service"
)

func main() {
	tuned := flag.Bool("tuned", false, "use the options that make grpc-go cheaper")
	service.Main(func(listener net.Listener, tls *tls.Config) error {
		var options []grpc.ServerOption
		if *tuned {
			options = append(options,
				grpc.NumStreamWorkers(uint32(runtime.GOMAXPROCS(0))),
				// Fixed windows: no pings to estimate the bandwidth.
				grpc.StaticStreamWindowSize(1<<20),
				grpc.StaticConnWindowSize(1<<20),
			)
		}
		if tls != nil {
			options = append(options, grpc.Creds(credentials.NewTLS(tls)))
		}
		directory, err := grpcserver.NewDirectory()
		if err != nil {
			return err
		}
		server := grpc.NewServer(options...)
		apipb.RegisterMyServiceServer(server, directory)
		tickerpb.RegisterTickerServiceServer(server, grpcserver.Ticker{})
		return server.Serve(listener)
	})
}
