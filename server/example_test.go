package server_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"example.com/roster/client"
	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	"example.com/roster/directory/storetest"
	"example.com/roster/gen/go/grpc/health/v1/healthv1connect"
	"example.com/roster/server"
)

// A port serves until its context is done, and then drains: a client that follows its health hears
// of it, and Serve returns nil once every call has ended.
func ExampleServer() {
	folder, err := os.MkdirTemp("", "roster-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	store, err := sqlite.Open(context.Background(), filepath.Join(folder, "roster.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if err := storetest.Put(context.Background(), store, directory.User{ID: 1, Name: "Ann", Age: 30}); err != nil {
		log.Fatal(err)
	}
	dir, err := directory.New(context.Background(), store, directory.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()

	srv, err := server.New(server.Config{Directory: dir})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, listener) }()

	url := "http://" + listener.Addr().String()
	watch := followHealth(url)
	c, err := client.New(url, client.Config{})
	if err != nil {
		log.Fatal(err)
	}
	users, err := c.Users(context.Background(), []int32{1, 2})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(users[0].Name, "is", users[0].Age)
	c.Close()

	fmt.Println(<-watch)
	stop()
	fmt.Println(<-watch)
	fmt.Println("Serve:", <-served)
	// Output:
	// Ann is 30
	// SERVING
	// NOT_SERVING
	// Serve: <nil>
}

// followHealth sends each status of a port.
func followHealth(url string) <-chan healthv1.HealthCheckResponse_ServingStatus {
	statuses := make(chan healthv1.HealthCheckResponse_ServingStatus, 8)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	health := healthv1connect.NewHealthClient(&http.Client{Transport: transport}, url, connect.WithGRPC())
	go func() {
		defer close(statuses)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		stream, err := health.Watch(ctx, &healthv1.HealthCheckRequest{})
		if err != nil {
			log.Fatal(err)
		}
		defer stream.Close()
		for stream.Receive() {
			statuses <- stream.Msg().GetStatus()
		}
	}()
	return statuses
}
