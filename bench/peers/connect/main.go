// Command connect is the stock connect-go peer: the contract and the stream on a net/http server,
// with the defaults of both.
package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/bench/gen/tickerpb/tickerpbconnect"
	"example.com/roster/bench/internal/service"
	"example.com/roster/bench/internal/ticker"
	"example.com/roster/gen/go/apipb"
	"example.com/roster/gen/go/apipb/apipbconnect"
)

// directory has the users as messages that are made once.
type directory map[int32]*apipb.User

// Health implements apipbconnect.MyServiceHandler.
func (directory) Health(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

// User implements apipbconnect.MyServiceHandler.
func (d directory) User(_ context.Context, request *apipb.UserReq) (*apipb.UserReply, error) {
	ids := request.GetUserIDs()
	data := make([]*apipb.User, 0, len(ids))
	for _, id := range ids {
		if user, ok := d[id]; ok {
			data = append(data, user)
		}
	}
	return &apipb.UserReply{Message: "success", Data: data}, nil
}

func main() { service.Main(serve) }

func serve(listener net.Listener, tls *tls.Config) error {
	users, err := service.Users()
	if err != nil {
		return err
	}
	d := make(directory, len(users))
	for id, u := range users {
		d[id] = &apipb.User{Name: u.Name, Age: u.Age, Email: u.Email}
	}
	mux := http.NewServeMux()
	mux.Handle(apipbconnect.NewMyServiceHandler(d))
	mux.Handle(tickerpbconnect.NewTickerServiceHandler(ticker.Service{}))
	server := &http.Server{Handler: mux, TLSConfig: tls, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	server.Protocols.SetHTTP2(true)
	if tls != nil {
		return server.ServeTLS(listener, "", "")
	}
	return server.Serve(listener)
}
