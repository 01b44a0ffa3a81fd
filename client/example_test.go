package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"example.com/roster/client"
)

func Example() {
	c, err := client.New("http://localhost:50051", client.Config{})
	if err != nil {
		log.Fatal(err) // the address is malformed
	}
	defer c.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := c.WaitReady(ctx); err != nil {
		log.Fatal(err) // says what is wrong there, and what to do
	}
	users, err := c.Users(ctx, []int32{1, 2})
	if err != nil {
		log.Fatal(err)
	}
	for _, u := range users {
		fmt.Println(u.Name, u.Age, u.Email)
	}
}

func ExampleError() {
	c, err := client.New("localhost:50051", client.Config{Protocol: client.Connect})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	var failure *client.Error
	if err := c.Health(context.Background()); errors.As(err, &failure) {
		switch failure.Reason {
		case client.ReasonNothingListens:
			log.Print("start the server first")
		case client.ReasonServerUsesTLS:
			log.Print("call it with https://")
		default:
			log.Print(err)
		}
	}
}

// A server whose certificate signed itself has to be given to the client.
func ExampleNew_selfSigned() {
	pem, err := os.ReadFile("cert.pem")
	if err != nil {
		return
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	c, err := client.New("https://localhost:50051", client.Config{TLS: &tls.Config{RootCAs: roots}})
	if err != nil {
		return
	}
	defer c.Close()
}
