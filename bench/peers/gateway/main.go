// Command gateway is the grpc-gateway peer: JSON over HTTP/1.1 and h2c, translated into calls of the
// grpc-go service in the same process, which spares it a second connection.
package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	"example.com/roster/bench/gen/apipb"
	"example.com/roster/bench/internal/grpcserver"
	"example.com/roster/bench/internal/service"
)

func main() { service.Main(serve) }

func serve(listener net.Listener, _ *tls.Config) error {
	directory, err := grpcserver.NewDirectory()
	if err != nil {
		return err
	}
	mux := runtime.NewServeMux()
	if err := apipb.RegisterMyServiceHandlerServer(context.Background(), mux, directory); err != nil {
		return err
	}
	server := &http.Server{Handler: mux, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	return server.Serve(listener)
}
