// Package service is what the peers written in Go have in common: the users that they serve and
// their command line. It is small, so that a peer links no code of Roster that an ordinary program
// of its kind would not.
package service

import (
	"bytes"
	"crypto/tls"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"strconv"

	"example.com/roster/examples"
)

// User is one row of examples/users.csv.
type User struct {
	Name  string
	Age   int32
	Email string
}

// Users returns the users by id.
func Users() (map[int32]User, error) {
	rows, err := csv.NewReader(bytes.NewReader(examples.Users)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read the sample users: %w", err)
	}
	users := make(map[int32]User, len(rows))
	for _, row := range rows[1:] {
		id, err := strconv.Atoi(row[0])
		age, ageErr := strconv.Atoi(row[2])
		if err := errors.Join(err, ageErr); err != nil {
			return nil, fmt.Errorf("read the sample users: %w", err)
		}
		users[int32(id)] = User{Name: row[1], Age: int32(age), Email: row[3]}
	}
	return users, nil
}

// IDs returns n ids that all exist. The file has 300 users, so a longer list repeats them: a
// repeated id is answered each time.
func IDs(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(i%300) + 1
	}
	return ids
}

// Main is the main function of a peer: it parses the flags, listens and serves. The TLS
// configuration is nil if the peer serves cleartext.
func Main(serve func(net.Listener, *tls.Config) error) {
	addr := flag.String("addr", "127.0.0.1:50051", "host:port to listen on")
	cert := flag.String("tls-cert", "", "certificate chain in PEM; none serves cleartext")
	key := flag.String("tls-key", "", "private key in PEM")
	flag.Parse()
	if err := run(*addr, *cert, *key, serve); err != nil {
		log.Fatal(err)
	}
}

func run(addr, cert, key string, serve func(net.Listener, *tls.Config) error) error {
	var config *tls.Config
	if cert != "" {
		certificate, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return fmt.Errorf("--tls-cert %s: %w", cert, err)
		}
		config = &tls.Config{Certificates: []tls.Certificate{certificate}}
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return serve(listener, config)
}
