// Command grpcgo is the grpc-go peer: the contract and the stream on grpc.NewServer, with its
// defaults or, with --tuned, with the options that make it cheaper. The users are messages in
// memory that are made once, which is as fast as it can be.
//
// With --gateway it is the grpc-gateway peer: JSON over HTTP/1.1 and h2c, translated into calls of
// the same service in the same process, which spares it a second connection.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"net"
	"net/http"
	"runtime"

	gateway "github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/bench/gen/apipb"
	"example.com/roster/bench/gen/tickerpb"
	"example.com/roster/bench/internal/service"
)

// directory serves apipb.MyService from memory.
type directory struct {
	apipb.UnimplementedMyServiceServer
	users map[int32]*apipb.User
}

func (d *directory) Health(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (d *directory) User(_ context.Context, request *apipb.UserReq) (*apipb.UserReply, error) {
	ids := request.GetUserIDs()
	data := make([]*apipb.User, 0, len(ids))
	for _, id := range ids {
		if user, ok := d.users[id]; ok {
			data = append(data, user)
		}
	}
	return &apipb.UserReply{Message: "success", Data: data}, nil
}

// ticker serves tickerpb.TickerService.
type ticker struct {
	tickerpb.UnimplementedTickerServiceServer
}

func (ticker) Count(request *tickerpb.CountRequest, stream grpc.ServerStreamingServer[tickerpb.CountResponse]) error {
	for n := range request.GetMessages() {
		if err := stream.Send(&tickerpb.CountResponse{Number: n + 1}); err != nil {
			return err
		}
	}
	return nil
}

// echo serves tickerpb.EchoService.
type echo struct {
	tickerpb.UnimplementedEchoServiceServer
}

func (echo) Echo(_ context.Context, request *tickerpb.EchoRequest) (*tickerpb.EchoResponse, error) {
	return &tickerpb.EchoResponse{Payload: request.GetPayload()}, nil
}

func main() {
	tuned := flag.Bool("tuned", false, "use the options that make grpc-go cheaper")
	asGateway := flag.Bool("gateway", false, "serve JSON by grpc-gateway, and no gRPC")
	service.Main(func(listener net.Listener, tls *tls.Config) error {
		users, err := service.Users()
		if err != nil {
			return err
		}
		d := &directory{users: make(map[int32]*apipb.User, len(users))}
		for id, u := range users {
			d.users[id] = &apipb.User{Name: u.Name, Age: u.Age, Email: u.Email}
		}
		if *asGateway {
			return serveGateway(listener, d)
		}
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
		server := grpc.NewServer(options...)
		apipb.RegisterMyServiceServer(server, d)
		tickerpb.RegisterTickerServiceServer(server, ticker{})
		tickerpb.RegisterEchoServiceServer(server, echo{})
		reflection.Register(server) // by which the bridge learns what there is
		return server.Serve(listener)
	})
}

func serveGateway(listener net.Listener, d *directory) error {
	mux := gateway.NewServeMux()
	if err := apipb.RegisterMyServiceHandlerServer(context.Background(), mux, d); err != nil {
		return err
	}
	server := &http.Server{Handler: mux, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	return server.Serve(listener)
}
