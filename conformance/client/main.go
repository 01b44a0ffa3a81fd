// The client under test of make conformance: it calls the suite's service with package client's
// connection, protocol, compression and limits.
//
// connectconformance starts the program and describes on stdin each call to make and the server to
// call. The results go to stdout as the calls end, in any order. The program exits at the end of
// stdin.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"example.com/roster/client"
	"example.com/roster/conformance/compat"
	"example.com/roster/conformance/gen/conformancepb"
	"example.com/roster/conformance/gen/conformancepb/conformancepbconnect"
)

// maxCalls is how many calls run concurrently. Calls with the same configuration share a
// connection.
const maxCalls = 16

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "client under test:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	clients := &clients{open: map[string]*client.Client{}}
	defer clients.close()
	var writing sync.Mutex
	calls, ctx := errgroup.WithContext(ctx)
	calls.SetLimit(maxCalls)
	for ctx.Err() == nil {
		request := &conformancepb.ClientCompatRequest{}
		if err := compat.Read(stdin, request); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("read which call to make: %w", err)
		}
		calls.Go(func() error {
			outcome := perform(ctx, clients, request)
			writing.Lock()
			defer writing.Unlock()
			return compat.Write(stdout, outcome)
		})
	}
	return calls.Wait()
}

// perform makes one call. The error in its result means that the call could not be made; the error
// of the call itself is a response.
func perform(ctx context.Context, clients *clients, request *conformancepb.ClientCompatRequest) *conformancepb.ClientCompatResponse {
	outcome := &conformancepb.ClientCompatResponse{TestName: request.GetTestName()}
	service, err := clients.service(request)
	if err == nil {
		var result *conformancepb.ClientResponseResult
		if result, err = call(ctx, service, request); err == nil {
			outcome.Result = &conformancepb.ClientCompatResponse_Response{Response: result}
		}
	}
	if err != nil {
		outcome.Result = &conformancepb.ClientCompatResponse_Error{
			Error: &conformancepb.ClientErrorResult{Message: err.Error()},
		}
	}
	return outcome
}

// clients holds the clients in use, one for each server and configuration.
type clients struct {
	mu   sync.Mutex
	open map[string]*client.Client
}

func (c *clients) close() {
	for _, one := range c.open {
		one.Close()
	}
}

// service returns a client of the suite's service, on the connection that request describes.
func (c *clients) service(request *conformancepb.ClientCompatRequest) (conformancepbconnect.ConformanceServiceClient, error) {
	if request.GetHttpVersion() != conformancepb.HTTPVersion_HTTP_VERSION_2 {
		return nil, fmt.Errorf("%v: package client supports only HTTP/2", request.GetHttpVersion())
	}
	// Everything that distinguishes one client from another.
	key, err := proto.MarshalOptions{Deterministic: true}.Marshal(&conformancepb.ClientCompatRequest{
		Host: request.GetHost(), Port: request.GetPort(),
		Protocol: request.GetProtocol(), Codec: request.GetCodec(), Compression: request.GetCompression(),
		ServerTlsCert: request.GetServerTlsCert(), ClientTlsCreds: request.GetClientTlsCreds(),
	})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	one, ok := c.open[string(key)]
	if !ok {
		if one, err = newClient(request); err != nil {
			return nil, err
		}
		c.open[string(key)] = one
	}
	httpClient, url, options := one.Endpoint()
	limit := client.MaxReplyBytes
	if asked := request.GetMessageReceiveLimit(); asked > 0 {
		limit = min(limit, int(asked))
	}
	return conformancepbconnect.NewConformanceServiceClient(httpClient, url, options, connect.WithReadMaxBytes(limit)), nil
}

func newClient(request *conformancepb.ClientCompatRequest) (*client.Client, error) {
	config := client.Config{
		JSON: request.GetCodec() == conformancepb.Codec_CODEC_JSON,
		Gzip: request.GetCompression() == conformancepb.Compression_COMPRESSION_GZIP,
	}
	switch request.GetProtocol() {
	case conformancepb.Protocol_PROTOCOL_GRPC:
		config.Protocol = client.GRPC
	case conformancepb.Protocol_PROTOCOL_GRPC_WEB:
		config.Protocol = client.GRPCWeb
	case conformancepb.Protocol_PROTOCOL_CONNECT:
		config.Protocol = client.Connect
	default:
		return nil, fmt.Errorf("%v: package client does not support it", request.GetProtocol())
	}
	scheme := "http"
	if trusted := request.GetServerTlsCert(); len(trusted) > 0 {
		scheme = "https"
		config.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
		if !config.TLS.RootCAs.AppendCertsFromPEM(trusted) {
			return nil, errors.New("the server's certificate is not PEM")
		}
	}
	if shown := request.GetClientTlsCreds(); shown != nil {
		certificate, err := tls.X509KeyPair(shown.GetCert(), shown.GetKey())
		if err != nil {
			return nil, fmt.Errorf("the client certificate: %w", err)
		}
		config.TLS.Certificates = []tls.Certificate{certificate}
	}
	address := net.JoinHostPort(request.GetHost(), strconv.Itoa(int(request.GetPort())))
	return client.New(scheme+"://"+address, config)
}
