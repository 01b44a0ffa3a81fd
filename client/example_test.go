package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/client"
	"example.com/roster/gen/go/apipb/apipbconnect"
)

func Example() {
	address, stop := startServer() // of your own: "http://localhost:50051"
	defer stop()

	c, err := client.New(address, client.Config{})
	if err != nil {
		log.Fatal(err) // the address is malformed
	}
	defer c.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := c.WaitReady(ctx); err != nil {
		log.Fatal(err) // says why the server does not answer, and what to do
	}
	users, err := c.Users(ctx, []int32{1, 2, 99}) // no user has the id 99
	if err != nil {
		log.Fatal(err)
	}
	for _, u := range users {
		fmt.Println(u.Name, u.Age, u.Email)
	}
	// Output:
	// Ada 36 ada@example.com
	// Grace 85 grace@example.com
}

func ExampleError() {
	address := freeAddress() // nothing listens on it
	c, err := client.New(address, client.Config{Protocol: client.Connect})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	var failure *client.Error
	if err := c.Health(context.Background()); errors.As(err, &failure) {
		switch failure.Reason {
		case client.ReasonNothingListens:
			fmt.Println("start the server first")
		case client.ReasonServerUsesTLS:
			fmt.Println("call it with https://")
		default:
			fmt.Println(err)
		}
	}
	// Output: start the server first
}

// Any service of the same server can be called with its generated code.
func ExampleClient_Endpoint() {
	address, stop := startServer()
	defer stop()
	c, err := client.New(address, client.Config{Protocol: client.GRPCWeb})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	service := apipbconnect.NewMyServiceClient(c.Endpoint())
	_, err = service.Health(context.Background(), &emptypb.Empty{})
	fmt.Println("error:", err)
	// Output: error: <nil>
}

// The client has to be given a self-signed certificate in order to trust it.
func ExampleNew_selfSigned() {
	pem, err := os.ReadFile("cert.pem")
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	c, err := client.New("https://localhost:50051", client.Config{TLS: &tls.Config{RootCAs: roots}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
}

// startServer serves three users until stop is called.
func startServer() (address string, stop func()) {
	server := httptest.NewUnstartedServer(handler(service{}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	return server.URL, server.Close
}

// freeAddress is the address of a port on which nothing listens.
func freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	return "http://" + listener.Addr().String()
}
