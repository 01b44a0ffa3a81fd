package main

import (
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"example.com/roster/server/tlsfile"
)

// callTLSFlags are what the commands that call a server trust and show.
type callTLSFlags struct{ ca, cert, key string }

func (f *callTLSFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.ca, "ca", "", "PEM file with the issuers to trust, instead of this machine's")
	flags.StringVar(&f.cert, "cert", "", "PEM file with the certificate to show to a server that asks for one")
	flags.StringVar(&f.key, "key", "", "PEM file with the private key of --cert")
}

// config is what a client needs of them to call server, nil if none is given.
func (f *callTLSFlags) config(server string) (*tls.Config, error) {
	switch {
	case (f.cert == "") != (f.key == ""):
		return nil, usage("--cert and --key go together")
	case f.ca == "" && f.cert == "":
		return nil, nil
	case !strings.HasPrefix(server, "https://"):
		return nil, usage("--ca, --cert and --key are for TLS, and --server %s is called without: use https://", server)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		roots, err := tlsfile.Pool(f.ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		config.RootCAs = roots
	}
	if f.cert != "" {
		pair, err := tlsfile.Pair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("--cert, --key: %w", err)
		}
		// Shown whatever issuers the server says it accepts, so that it says
		// what is wrong with this one rather than that there is none.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return config, nil
}
