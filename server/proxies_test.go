package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"example.com/roster/server/rpc"
	"example.com/roster/server/rpc/rpctest"
	"example.com/roster/server/telemetry"
	"example.com/roster/server/tlsfile/certtest"
)

const balancersHeader = "PROXY TCP4 203.0.113.7 192.0.2.1 1234 50051\r\n"

// behindBalancer returns a client whose connections begin with a header of the PROXY protocol.
func behindBalancer(t *testing.T, http2 bool, tlsConfig *tls.Config) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: tlsConfig}
	transport.Protocols.SetUnencryptedHTTP2(http2)
	transport.Protocols.SetHTTP2(http2)
	transport.Protocols.SetHTTP1(!http2)
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			_, err = io.WriteString(conn, balancersHeader)
		}
		return conn, err
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// The address that the PROXY protocol names is that of the caller in the logs of the port, with every
// engine, in cleartext and with TLS; and no caller is on this machine.
func TestThePortBehindABalancer(t *testing.T) {
	ca := certtest.NewCA(t, "Roster test CA")
	pair := ca.Issue(t, certtest.For("localhost", "127.0.0.1"))
	for _, secure := range []bool{false, true} {
		for _, http2 := range []bool{false, true} {
			for _, standard := range []bool{false, true} {
				var lines logBuffer
				log := telemetry.NewAccessLog(slog.New(slog.NewTextHandler(&lines, nil)), telemetry.AccessLogConfig{Successes: -1, Errors: -1})
				config := Config{Local: true, ProxyProtocol: true, StandardHTTP2: standard, Observers: []rpc.Observer{log}}
				scheme, clientConfig := "http", (*tls.Config)(nil)
				if secure {
					config.TLS = &tls.Config{Certificates: []tls.Certificate{pair.TLS(t)}}
					scheme, clientConfig = "https", &tls.Config{RootCAs: ca.Pool()}
				}
				p := start(t, config, nil, helloRoutes()...)
				client := behindBalancer(t, http2, clientConfig)
				for path, status := range map[string]int{"/MyService/User": 200, "/t/Write": 403} {
					response, err := client.Post(scheme+"://"+p.address+path, "application/json", strings.NewReader("{}"))
					if err != nil {
						t.Fatalf("TLS %v, HTTP/2 %v, standard %v: %v", secure, http2, standard, err)
					}
					body, _ := io.ReadAll(response.Body)
					response.Body.Close()
					if response.StatusCode != status || (response.ProtoMajor == 2) != http2 {
						t.Errorf("TLS %v, HTTP/2 %v, standard %v, %s: %s %d %s", secure, http2, standard, path, response.Proto, response.StatusCode, body)
					}
				}
				client.CloseIdleConnections()
				if err := p.stop(); err != nil {
					t.Error(err)
				}
				if got := lines.String(); strings.Count(got, "peer=203.0.113.0/24") != 2 {
					t.Errorf("TLS %v, HTTP/2 %v, standard %v: the access log has %s", secure, http2, standard, got)
				}
				if got := p.log.String(); !strings.Contains(got, "address=203.0.113.7:1234") {
					t.Errorf("TLS %v, HTTP/2 %v, standard %v: the log has %s", secure, http2, standard, got)
				}
			}
		}
	}
}

// A balancer may itself connect for a proxy, which names the client in a header.
func TestAProxyBehindABalancer(t *testing.T) {
	var lines logBuffer
	log := telemetry.NewAccessLog(slog.New(slog.NewTextHandler(&lines, nil)), telemetry.AccessLogConfig{Successes: -1, Errors: -1})
	p := start(t, Config{ProxyProtocol: true, Observers: []rpc.Observer{log}, TrustedProxies: []netip.Prefix{
		netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("203.0.113.0/24")}}, nil)
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, target := range []string{"/MyService/User", "/"} { // a call, and the page
		begin := ""
		if target != "/" {
			begin = balancersHeader
		}
		fmt.Fprintf(conn, "%sPOST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Forwarded-For: 192.0.2.9, 198.51.100.4\r\nContent-Length: 2\r\n\r\n{}", begin, target)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, response.Body)
	}
	conn.Close()
	p.stop()
	if got := lines.String(); strings.Count(got, "peer=198.51.100.0/24") != 2 {
		t.Errorf("the access log has %s", got)
	}
}

// nginx keeps what an upstream sends until it has some kilobytes, except if the reply says not to.
func TestStreamsAskProxiesNotToBuffer(t *testing.T) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusOK) })
	p := start(t, Config{}, nil, rpctest.Route{Path: "/s/Follow", Handler: answer, ServerStreams: true, Policy: rpc.Policy{MaxStreams: 10}})
	for _, test := range []struct{ path, contentType, want string }{
		{"/s/Follow", "application/connect+json", "no"},
		{"/s/Follow", "application/grpc-web", "no"},
		{"/s/Follow", "application/grpc", ""}, // nginx does not, and clients show it as metadata
		{"/MyService/User", "application/json", ""},
	} {
		response, _ := p.post(true, test.path, test.contentType, bytes.NewReader(envelope(0, nil)))
		if got := response.Header.Get("X-Accel-Buffering"); got != test.want {
			t.Errorf("%s as %s: %q, want %q", test.path, test.contentType, got, test.want)
		}
	}
}
