package client_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/client"
	"example.com/roster/gen/go/apipb"
	"example.com/roster/server/tlsfile/certtest"
)

// fault is something wrong with a server, and what the client's error must say about it.
type fault struct {
	name   string
	url    string
	cfg    client.Config
	reason client.Reason
	code   connect.Code
	text   string // in the error
	lasts  bool   // WaitReady gives up at once
}

// patience is the deadline of a call. A call that waits until its deadline gets a short one; one
// that ends earlier gets a long one, since the machine may be busy with other tests.
func (f fault) patience() time.Duration {
	if f.lasts {
		return 20 * time.Second
	}
	return 3 * time.Second
}

func faults(t *testing.T) []fault {
	h := handler(service{})
	issuer := certtest.NewCA(t, "CA")
	tlsServer := serveTLS(t, h, true, nil)
	tlsHTTP1 := serveTLS(t, h, false, nil)
	dated := func(from, to time.Duration) port {
		return serveTLS(t, h, true, func(c *tls.Config) {
			template := certtest.For("example.com")
			template.NotBefore, template.NotAfter = time.Now().Add(from), time.Now().Add(to)
			c.Certificates = []tls.Certificate{issuer.Issue(t, template).TLS(t)}
		})
	}
	expired, early := dated(-2*time.Hour, -time.Hour), dated(time.Hour, 2*time.Hour)
	trustIssuer := client.Config{TLS: &tls.Config{RootCAs: issuer.Pool(), ServerName: "example.com"}}
	mutual := serveTLS(t, h, true, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert })
	oldTLS := serveTLS(t, h, true, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })
	plain := serveHTTP(t, h)
	https := func(p port) string { return "https://" + p.address() }
	trust := func(p port) client.Config { return client.Config{TLS: p.certificate} }
	newer := trust(oldTLS)
	newer.TLS.MinVersion = tls.VersionTLS13
	notFound := serveHTTP(t, http.NotFoundHandler())
	page := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<h1>It works!</h1>")
	}))
	moved := serveHTTP(t, http.RedirectHandler("http://example.com/", http.StatusMovedPermanently))
	badGateway := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no upstream", http.StatusBadGateway)
	}))
	answers := func(code connect.Code, message string) string {
		fail := func(context.Context) error { return connect.NewError(code, errors.New(message)) }
		return serveHTTP(t, handler(service{
			health: fail,
			user:   func(ctx context.Context, _ []int32) (*apipb.UserReply, error) { return nil, fail(ctx) },
		})).url
	}
	hangsUp := serveRaw(t, func(c net.Conn) { c.Close() })
	resets := serveRaw(t, func(c net.Conn) {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	})
	wantsCertificate := serveTLS(t, h, true, func(c *tls.Config) {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			strict := c.Clone()
			strict.ClientAuth = tls.RequestClientCert
			strict.NextProtos = []string{"h2"}
			strict.VerifyConnection = func(tls.ConnectionState) error {
				hello.Conn.Close() // before the alert can be sent
				return errors.New("no client certificate")
			}
			return strict, nil
		}
	})
	silent := serveRaw(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	greets := serveRaw(t, func(c net.Conn) {
		io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n")
		io.Copy(io.Discard, c)
	})
	alerts := serveRaw(t, func(c net.Conn) {
		io.ReadFull(c, make([]byte, 24))
		c.Write([]byte{0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46}) // fatal, protocol_version
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
	})

	const unavailable, unimplemented = connect.CodeUnavailable, connect.CodeUnimplemented
	return []fault{
		{name: "nothing listens", url: freeAddress(), reason: client.ReasonNothingListens, code: unavailable, text: "connection refused"},
		{name: "nothing listens for TLS", url: "https" + freeAddress()[len("http"):], reason: client.ReasonNothingListens, code: unavailable},
		{name: "no such host", url: "http://roster.invalid:50051", reason: client.ReasonNameUnknown, code: unavailable, text: "roster.invalid"},
		{name: "TLS called without", url: "http://" + tlsServer.address(), reason: client.ReasonServerUsesTLS, code: unavailable, text: "use https://", lasts: true},
		{name: "TLS called without answers an alert", url: alerts.url, reason: client.ReasonServerUsesTLS, code: unavailable, text: "use https://", lasts: true},
		{name: "TLS without HTTP/2 called without", url: "http://" + tlsHTTP1.address(), reason: client.ReasonServerUsesTLS, code: unavailable, lasts: true},
		{name: "plain called with TLS", url: https(plain), reason: client.ReasonServerUsesPlain, code: unavailable, text: "use http://", lasts: true},
		{name: "plain HTTP/2 alone called with TLS", url: https(serveProtocols(t, h, false, true)), reason: client.ReasonServerUsesPlain, code: unavailable, lasts: true},
		{name: "certificate of unknown issuer", url: tlsServer.url, reason: client.ReasonCertificate, code: unavailable, text: "unknown authority", lasts: true},
		{name: "certificate of another name", url: tlsServer.url, cfg: client.Config{TLS: &tls.Config{RootCAs: tlsServer.certificate.RootCAs, ServerName: "roster.test"}}, reason: client.ReasonCertificate, code: unavailable, text: "roster.test", lasts: true},
		{name: "certificate that has expired", url: expired.url, cfg: trustIssuer, reason: client.ReasonCertificate, code: unavailable, text: "renew it on the server, or correct this machine's clock, which says 20", lasts: true},
		{name: "certificate that is not valid yet", url: early.url, cfg: trustIssuer, reason: client.ReasonCertificate, code: unavailable, text: "correct this machine's clock, which says 20", lasts: true},
		{name: "client certificate wanted", url: mutual.url, cfg: trust(mutual), reason: client.ReasonTLSRefused, code: unavailable, text: "client certificate", lasts: true},
		{name: "client certificate wanted without an alert", url: wantsCertificate.url, cfg: trust(wantsCertificate), reason: client.ReasonTLSRefused, code: unavailable, text: "client certificate", lasts: true},
		{name: "no TLS version in common", url: oldTLS.url, cfg: newer, reason: client.ReasonTLSRefused, code: unavailable, text: "version", lasts: true},
		{name: "HTTP/1.1 server", url: serveProtocols(t, h, true, false).url, reason: client.ReasonNotHTTP2, code: unavailable, text: "HTTP/1.1", lasts: true},
		{name: "HTTP/1.1 server with TLS", url: tlsHTTP1.url, cfg: trust(tlsHTTP1), reason: client.ReasonNotHTTP2, code: unavailable, text: "HTTP/2", lasts: true},
		{name: "SSH server", url: greets.url, reason: client.ReasonNotHTTP2, code: unavailable, text: "SSH-2.0-OpenSSH_9.2", lasts: true},
		{name: "HTTP/2 server with nothing there", url: notFound.url, reason: client.ReasonNotRPC, code: unimplemented, text: "HTTP 404", lasts: true},
		{name: "HTTP/2 server with a page there", url: page.url, reason: client.ReasonNotRPC, code: connect.CodeUnknown, text: "HTTP 200 text/html", lasts: true},
		{name: "redirect", url: moved.url, reason: client.ReasonNotRPC, code: connect.CodeUnknown, text: "HTTP 301", lasts: true},
		{name: "proxy without upstream", url: badGateway.url, reason: client.ReasonUnavailable, code: unavailable, text: "HTTP 502"},
		{name: "service without the method", url: answers(unimplemented, "no such method"), reason: client.ReasonNoService, code: unimplemented, text: "no such method", lasts: true},
		{name: "store down", url: answers(unavailable, "the store does not answer"), reason: client.ReasonUnavailable, code: unavailable, text: "the store does not answer"},
		{name: "servicer that returns None", url: answers(connect.CodeInternal, "Failed to serialize response!"), reason: client.ReasonBadReply, code: connect.CodeInternal, text: "a Python method that returns None", lasts: true},
		{name: "asyncio servicer that returns None", url: answers(connect.CodeUnknown, "Unexpected <class 'TypeError'>: descriptor 'SerializeToString' for 'google._upb._message.Message' objects doesn't apply to a 'NoneType' object"), reason: client.ReasonBadReply, code: connect.CodeUnknown, text: "a Python method that returns None", lasts: true},
		{name: "internal error", url: answers(connect.CodeInternal, "disk on fire"), reason: client.ReasonServerError, code: connect.CodeInternal, text: "disk on fire", lasts: true},
		{name: "closes connections", url: hangsUp.url, reason: client.ReasonConnectionLost, code: unavailable},
		{name: "resets connections", url: resets.url, reason: client.ReasonConnectionLost, code: unavailable},
		{name: "silent", url: silent.url, reason: client.ReasonNoAnswer, code: connect.CodeDeadlineExceeded},
	}
}

func TestHealthSaysWhatIsWrong(t *testing.T) {
	for _, f := range faults(t) {
		for _, protocol := range []client.Protocol{client.GRPC, client.GRPCWeb, client.Connect} {
			t.Run(f.name+" "+protocol.String(), func(t *testing.T) {
				t.Parallel()
				cfg := f.cfg
				cfg.Protocol = protocol
				err := dial(t, f.url, cfg).Health(within(t, f.patience()))
				failure := expect(t, err, f.reason, f.code)
				expectText(t, err, f.text)
				if failure.Op != "Health" || failure.Attempts != 1 {
					t.Errorf("%s with %d attempts, want Health with 1", failure.Op, failure.Attempts)
				}
			})
		}
	}
}

func TestUsersSaysWhatIsWrong(t *testing.T) {
	for _, f := range faults(t) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			_, err := dial(t, f.url, f.cfg).Users(within(t, f.patience()), []int32{1})
			expect(t, err, f.reason, f.code)
			expectText(t, err, "User at "+f.url)
			if f.lasts && time.Since(start) > f.patience()/2 {
				t.Errorf("it took %v to fail although waiting does not help", time.Since(start))
			}
		})
	}
}

func TestWaitReadySaysWhatIsWrong(t *testing.T) {
	for _, f := range faults(t) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			err := dial(t, f.url, f.cfg).WaitReady(within(t, f.patience()))
			took := time.Since(start)
			expect(t, err, f.reason, f.code)
			expectText(t, err, f.text)
			switch {
			case f.lasts && took > f.patience()/2:
				t.Errorf("it waited %v although waiting does not help", took)
			case !f.lasts && took < f.patience()*9/10:
				t.Errorf("it gave up after %v, want all of %v", took, f.patience())
			case !f.lasts:
				expectIs(t, err, context.DeadlineExceeded)
			}
		})
	}
}

func TestTheCauseIsInTheChain(t *testing.T) {
	ctx := within(t, 3*time.Second)
	expectIs(t, dial(t, freeAddress(), client.Config{}).Health(ctx), syscall.ECONNREFUSED)
	var name *net.DNSError
	if err := dial(t, "http://roster.invalid", client.Config{}).Health(ctx); !errors.As(err, &name) {
		t.Errorf("no *net.DNSError in %v", err)
	}
	var certificate *tls.CertificateVerificationError
	server := serveTLS(t, handler(service{}), true, nil)
	if err := dial(t, server.url, client.Config{}).Health(ctx); !errors.As(err, &certificate) {
		t.Errorf("no *tls.CertificateVerificationError in %v", err)
	}
}

func TestTheWrongProtocolIsNamed(t *testing.T) {
	grpc := func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "12")
	}
	// Some servers answer in gRPC, whatever the protocol of the request.
	answers := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { grpc(w) }))
	// grpcio resets the stream if the request is not gRPC.
	resets := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") != "application/grpc" {
			panic(http.ErrAbortHandler)
		}
		grpc(w)
	}))
	for _, server := range []port{answers, resets} {
		for _, cfg := range []client.Config{
			{Protocol: client.GRPCWeb}, {Protocol: client.GRPCWeb, JSON: true},
			{Protocol: client.Connect}, {Protocol: client.Connect, JSON: true},
		} {
			err := dial(t, server.url, cfg).Health(within(t, 3*time.Second))
			expect(t, err, client.ReasonWrongProtocol, connect.CodeOf(err))
			expectText(t, err, "asked in "+cfg.Protocol.String())
			expectText(t, err, "it answered in grpc")
		}
	}
	// grpcio answers gRPC with JSON in gRPC without JSON.
	err := dial(t, answers.url, client.Config{JSON: true}).Health(within(t, 3*time.Second))
	expect(t, err, client.ReasonWrongProtocol, connect.CodeInternal)
	expectText(t, err, "asked in grpc with JSON, it answered in application/grpc")
}

func TestAClientCertificateIsShown(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "a client"},
		NotAfter:     time.Now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	server := serveTLS(t, handler(service{}), true, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert })
	cfg := client.Config{TLS: server.certificate}
	cfg.TLS.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	if err := dial(t, server.url, cfg).Health(within(t, 3*time.Second)); err != nil {
		t.Error(err)
	}
}

// Probes must not add load to a server that is in trouble.
func TestCallsThatFailTogetherShareAProbe(t *testing.T) {
	server := serveRaw(t, func(c net.Conn) {
		time.Sleep(200 * time.Millisecond)
		c.Close()
	})
	c := dial(t, server.url, client.Config{})
	ctx := within(t, 10*time.Second)
	done := make(chan error)
	const calls = 50
	for range calls {
		go func() { done <- c.Health(ctx) }()
	}
	for range calls {
		expect(t, <-done, client.ReasonConnectionLost, connect.CodeUnavailable)
	}
	// Some connections are for the calls, and two for the probe.
	if n := server.connections.Load(); n > calls/2 {
		t.Errorf("%d calls opened %d connections", calls, n)
	}
}
