// Package peerflags is the command line that the peers written in Go share.
package peerflags

import (
	"crypto/tls"
	"flag"
	"fmt"
	"net"
)

// Flags is what a peer is told.
type Flags struct {
	Addr, cert, key string
}

// Register declares the flags.
func Register() *Flags {
	var f Flags
	flag.StringVar(&f.Addr, "addr", "127.0.0.1:50051", "host:port to listen on")
	flag.StringVar(&f.cert, "tls-cert", "", "certificate chain in PEM; none serves without TLS")
	flag.StringVar(&f.key, "tls-key", "", "private key in PEM")
	return &f
}

// Listen listens on Addr, without TLS.
func (f *Flags) Listen() (net.Listener, error) { return net.Listen("tcp", f.Addr) }

// TLS returns the configuration of the certificate, nil if there is none.
func (f *Flags) TLS() (*tls.Config, error) {
	if f.cert == "" {
		return nil, nil
	}
	certificate, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert %s: %w", f.cert, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{certificate}}, nil
}
