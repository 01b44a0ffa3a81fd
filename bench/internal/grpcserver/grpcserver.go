// Package grpcserver is the services as a grpc-go program implements them: the users are messages
// in memory that are made once, which is as fast as it can be.
package grpcserver

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/bench/gen/apipb"
	"example.com/roster/bench/gen/tickerpb"
	"example.com/roster/bench/internal/service"
)

// Directory serves apipb.MyService from memory.
type Directory struct {
	apipb.UnimplementedMyServiceServer
	users map[int32]*apipb.User
}

// NewDirectory returns a Directory of the sample users.
func NewDirectory() (*Directory, error) {
	users, err := service.Users()
	d := &Directory{users: make(map[int32]*apipb.User, len(users))}
	for id, u := range users {
		d.users[id] = &apipb.User{Name: u.Name, Age: u.Age, Email: u.Email}
	}
	return d, err
}

// Health implements apipb.MyServiceServer.
func (d *Directory) Health(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

// User implements apipb.MyServiceServer.
func (d *Directory) User(_ context.Context, request *apipb.UserReq) (*apipb.UserReply, error) {
	ids := request.GetUserIDs()
	data := make([]*apipb.User, 0, len(ids))
	for _, id := range ids {
		if user, ok := d.users[id]; ok {
			data = append(data, user)
		}
	}
	return &apipb.UserReply{Message: "success", Data: data}, nil
}

// Ticker serves tickerpb.TickerService.
type Ticker struct {
	tickerpb.UnimplementedTickerServiceServer
}

// Count implements tickerpb.TickerServiceServer.
func (Ticker) Count(request *tickerpb.CountRequest, stream grpc.ServerStreamingServer[tickerpb.CountResponse]) error {
	for n := range request.GetMessages() {
		if err := stream.Send(&tickerpb.CountResponse{Number: n + 1}); err != nil {
			return err
		}
	}
	return nil
}
