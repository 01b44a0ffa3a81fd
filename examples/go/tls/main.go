// This program looks users up over TLS, and trusts the certificate in the file that it is given.
// Run it with "go run ./tls ../../cert.pem" in examples/go of a checkout of Roster.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"os"
	"time"

	"example.com/roster/client"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: go run ./tls CERTIFICATE")
	}
	certificate, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(certificate) {
		log.Fatalf("%s has no certificate in PEM", os.Args[1])
	}
	c, err := client.New("https://localhost:50051", client.Config{TLS: &tls.Config{RootCAs: roots}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	users, err := c.Users(ctx, []int32{1, 2})
	if err != nil {
		log.Fatal(err)
	}
	for _, user := range users {
		fmt.Println(user.Name, user.Age, user.Email)
	}
}
