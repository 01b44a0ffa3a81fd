package bridge_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"example.com/roster/server/bridge"
)

// A Python server that is told to compress with deflate does so whatever its caller accepts.
func TestAServerThatCompressesWithDeflate(t *testing.T) {
	deflate := func(ctx context.Context) {
		if err := grpc.SetSendCompressor(ctx, "deflate"); err != nil {
			t.Error(err)
		}
	}
	p := startServer(t, "", grpc.MaxSendMsgSize(64<<20),
		grpc.UnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			deflate(ctx)
			return next(ctx, request)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			deflate(stream.Context())
			return next(srv, stream)
		}))
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+p.address)})
	mounted(t, b)
	for _, protocol := range protocols {
		t.Run(protocol.name, func(t *testing.T) {
			var calls sync.WaitGroup
			for range 10 {
				calls.Go(func() {
					reply, err := unary(url, protocol.options...).CallUnary(t.Context(), connect.NewRequest(&testgrpc.SimpleRequest{ResponseSize: 100_000}))
					if err != nil || len(reply.Msg.GetPayload().GetBody()) != 100_000 {
						t.Error(err)
					}
				})
			}
			calls.Wait()
			_, err := unary(url, protocol.options...).CallUnary(t.Context(), connect.NewRequest(&testgrpc.SimpleRequest{ResponseSize: 300_000}))
			if connect.CodeOf(err) != connect.CodeInternal || !strings.Contains(err.Error(), "a reply in deflate is longer than 262144 bytes") {
				t.Error("a reply over the limit:", err)
			}
		})
	}
}

// A message of a stream over the limit is refused with the limit there is, and the flag that sets it.
func TestAMessageOfAStreamOverTheLimit(t *testing.T) {
	const limit = 5 << 20
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+startServer(t, "", grpc.MaxRecvMsgSize(64<<20)).address), MaxMessage: limit})
	mounted(t, b)
	const want = "a message is longer than 5242880 bytes, before or after compression (as much as --bridge-max-message allows)"
	payload := &testgrpc.Payload{Body: make([]byte, limit+1)}
	for _, protocol := range protocols {
		t.Run(protocol.name, func(t *testing.T) {
			client := inputs(url, protocol.options...).CallClientStream(t.Context())
			_ = client.Send(&inputRequest{Payload: payload})
			if _, err := client.CloseAndReceive(); connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), want) {
				t.Error("the client streams:", err)
			}
			both := duplex(url, protocol.options...).CallBidiStream(t.Context())
			_ = both.Send(&outputRequest{Payload: payload})
			if _, err := both.Receive(); connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), want) {
				t.Error("both stream:", err)
			}
			_ = both.CloseRequest()
			_ = both.CloseResponse()
		})
	}
}

// certificate signs itself for one name or address.
func certificate(t *testing.T, name string) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	if ip := net.ParseIP(name); ip != nil {
		about.IPAddresses = []net.IP{ip}
	} else {
		about.DNSNames = []string{name}
	}
	signed, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(signed)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{signed}, PrivateKey: key}, parsed
}

// Each process of an upstream with TLS may have a certificate of its own name, and tells its schema by that.
func TestProcessesWithCertificatesOfTheirOwn(t *testing.T) {
	trusted := x509.NewCertPool()
	var asked [2]atomic.Bool // by reflection
	start := func(i int, name string) string {
		pair, parsed := certificate(t, name)
		trusted.AddCert(parsed)
		p := startServer(t, "", grpc.Creds(credentials.NewServerTLSFromCert(&pair)),
			grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
				if strings.Contains(info.FullMethod, "ServerReflectionInfo") {
					asked[i].Store(true)
				}
				return next(srv, stream)
			}))
		_, port, err := net.SplitHostPort(p.address)
		if err != nil {
			t.Fatal(err)
		}
		return "https://" + net.JoinHostPort(name, port)
	}
	urls := start(0, "localhost") + "," + start(1, "127.0.0.1")
	_, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, urls), TLS: &tls.Config{RootCAs: trusted}})
	mounted(t, b)
	await(t, "both to be ready", func() bool { return b.Reports()[0].Ready == 2 })
	await(t, "both to tell their schema", func() bool { return asked[0].Load() && asked[1].Load() })
}

// A service that the server does not have is told of: the name may be misspelt.
func TestAServiceThatTheServerDoesNotHave(t *testing.T) {
	says(t, bridge.Config{Upstreams: upstream(t, "grpc.testing.TestServise=http://"+startServer(t, "").address)},
		"grpc.testing.TestServise is not mounted: the server does not have it")
}
