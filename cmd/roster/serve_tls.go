package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"example.com/roster/server/tlsfile"
)

// tlsFlags are the flags of roster serve that have it speak TLS.
type tlsFlags struct{ cert, key, clientCA string }

func (f *tlsFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.cert, "tls-cert", "", "PEM file with the certificate and its chain, to serve TLS; taken up again when it changes")
	flags.StringVar(&f.key, "tls-key", "", "PEM file with the certificate's private key")
	flags.StringVar(&f.clientCA, "tls-client-ca", "", "PEM file with the issuers of client certificates: a client must show one (mutual TLS)")
}

func (f tlsFlags) check() error {
	switch {
	case (f.cert == "") != (f.key == ""):
		return usage("--tls-cert and --tls-key go together")
	case f.clientCA != "" && f.cert == "":
		return usage("--tls-client-ca needs --tls-cert and --tls-key: client certificates are shown in TLS alone")
	}
	return nil
}

// open reads the files, nil if the port is to speak plain.
func (f tlsFlags) open(log *slog.Logger) (*tlsfile.Files, error) {
	if f.cert == "" {
		return nil, nil
	}
	return tlsfile.Open(tlsfile.Config{Cert: f.cert, Key: f.key, ClientCA: f.clientCA, Log: log})
}

// watchTLS takes up the files as they change, until ctx is done. SIGHUP has
// them read at once, as many a script does after a renewal; not on a terminal,
// where that signal is the end of it.
func watchTLS(ctx context.Context, files *tlsfile.Files, terminal bool) {
	if !terminal {
		hangUps := make(chan os.Signal, 1)
		signal.Notify(hangUps, syscall.SIGHUP)
		defer signal.Stop(hangUps)
		go func() {
			for {
				select {
				case <-hangUps:
					files.Reload()
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	files.Watch(ctx)
}

// welcome is as that of a plain port; a certificate that signed itself has to
// be given to clients.
func (f tlsFlags) welcome(address string, selfSigned bool) string {
	curl, roots, get := "", "", ""
	if selfSigned {
		curl, roots, get = " --cacert "+f.cert, "open('"+f.cert+"', 'rb').read()", " --ca "+f.cert
	}
	if f.clientCA != "" {
		const pair = " --cert client.pem --key client-key.pem"
		curl, get = curl+pair, get+pair
		if roots == "" {
			roots = "None"
		}
		roots += ", open('client-key.pem', 'rb').read(), open('client.pem', 'rb').read()"
	}
	return strings.NewReplacer("ADDRESS", address, "CURL", curl, "ROOTS", roots, "GET", get).Replace(`
  The page   https://ADDRESS/
  curl       curlCURL -H 'content-type: application/json' -d '{"userIDs":[1,2]}' https://ADDRESS/MyService/User
  Python     pip install grpcio protobuf && PYTHONPATH=gen/python python3 -c "import grpc, api_pb2 as pb, api_pb2_grpc as rpc; print(rpc.MyServiceStub(grpc.secure_channel('ADDRESS', grpc.ssl_channel_credentials(ROOTS))).User(pb.UserReq(userIDs=[1, 2])))"
  Go         go run ./cmd/roster get 1 2 --server https://ADDRESSGET

`)
}
