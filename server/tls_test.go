package server

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/roster/server/tlsfile/certtest"
)

// credentials are a certificate for 127.0.0.1 and the roots that trust it.
func credentials(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	ca := certtest.NewCA(t, "CA")
	return ca.Issue(t, certtest.For("127.0.0.1")).TLS(t), ca.Pool()
}

// tlsClient agrees to one version of HTTP alone.
func tlsClient(t *testing.T, http2 bool, config *tls.Config) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: config}
	transport.Protocols.SetHTTP2(http2)
	transport.Protocols.SetHTTP1(!http2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestServeTLS(t *testing.T) {
	certificate, roots := credentials(t)
	for _, standard := range []bool{false, true} {
		testServeTLS(t, Config{TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}, StandardHTTP2: standard}, roots)
	}
}

func testServeTLS(t *testing.T, config Config, roots *x509.CertPool) {
	p := start(t, config, nil)
	for http2, proto := range map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"} {
		response, err := tlsClient(t, http2, &tls.Config{RootCAs: roots}).Post(
			"https://"+p.address+"/MyService/User", "application/json", strings.NewReader(`{"userIDs":[1]}`))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.Proto != proto || response.StatusCode != 200 || !strings.Contains(string(body), "Ann") {
			t.Errorf("%s %d %s, want %s 200 and Ann", response.Proto, response.StatusCode, body, proto)
		}
	}
	response, body := p.post(false, "/MyService/User", "application/json", strings.NewReader(`{"userIDs":[1]}`))
	if response.StatusCode != 400 || strings.Contains(body, "Ann") {
		t.Errorf("without TLS: %d %s, want 400", response.StatusCode, body)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if len(config.TLS.NextProtos) > 0 {
		t.Errorf("the caller's configuration was changed: %q", config.TLS.NextProtos)
	}
}

func TestServeTLSAsksForClientCertificates(t *testing.T) {
	certificate, roots := credentials(t)
	p := start(t, Config{TLS: &tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientAuth:   tls.RequireAnyClientCert,
	}}, nil)
	for _, http2 := range []bool{false, true} {
		for _, shown := range [][]tls.Certificate{nil, {certificate}} {
			response, err := tlsClient(t, http2, &tls.Config{RootCAs: roots, Certificates: shown}).Post(
				"https://"+p.address+"/MyService/Health", "application/json", strings.NewReader("{}"))
			if err == nil {
				response.Body.Close()
			}
			if (err == nil) != (shown != nil) {
				t.Errorf("HTTP/2 %v, %d certificates shown: %v", http2, len(shown), err)
			}
		}
	}
}

// A client that speaks cleartext HTTP to a port with TLS gets an error that says so, in its own
// protocol, and nothing else.
func TestAPlainClientOfATLSPort(t *testing.T) {
	certificate, _ := credentials(t)
	const want = "this port speaks TLS and was called without: use https://, or in gRPC a channel with TLS credentials"
	for _, standard := range []bool{false, true} {
		p := start(t, Config{TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}, StandardHTTP2: standard}, nil)
		for _, test := range []struct {
			http2             bool
			path, contentType string
			status            int
			header            string // of gRPC
		}{
			{false, "/", "", 400, ""},
			{true, "/", "", 400, ""},
			{false, "/MyService/User", "application/json", 400, ""},
			{true, "/MyService/User", "application/json", 400, ""},
			{true, "/MyService/User", "application/grpc", 200, "9"},
			{true, "/MyService/User", "application/grpc-web+proto", 200, "9"},
			{false, "/MyService/User", "application/grpc-web+proto", 200, "9"},
		} {
			response, body := p.post(test.http2, test.path, test.contentType, strings.NewReader(`{"userIDs":[1]}`))
			said := body + response.Header.Get("Grpc-Message")
			if response.StatusCode != test.status || response.Header.Get("Grpc-Status") != test.header && !strings.Contains(body, "grpc-status: "+test.header) ||
				!strings.Contains(said, want) || strings.Contains(said, "Ann") || response.Close == test.http2 {
				t.Errorf("%+v: %d %v %s", test, response.StatusCode, response.Header, body)
			}
		}
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if said := p.log.String(); !strings.Contains(said, `msg="TLS handshake failed" remote=127.0.0.1:`) ||
			!strings.Contains(said, `error="the client speaks HTTP without TLS" hint="the client must use https://`) {
			t.Errorf("logged %s", said)
		}
	}
}

// A body that is long, or never arrives, delays neither its own refusal nor other clients.
func TestAPlainClientOfATLSPortThatGoesOn(t *testing.T) {
	certificate, _ := credentials(t)
	p := start(t, Config{TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}, stallTimeout: 100 * time.Millisecond}, nil)
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST /MyService/User HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(answer), "this port speaks TLS") {
		t.Errorf("%s, %v", answer, err)
	}
}

// The alert that says why a handshake failed arrives, although the client has sent more data by
// then.
func TestTheAlertArrives(t *testing.T) {
	certificate, roots := credentials(t)
	p := start(t, Config{TLS: &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAnyClientCert}}, nil)
	for range 20 {
		conn, err := tls.Dial("tcp", p.address, &tls.Config{RootCAs: roots, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err) // in TLS 1.3 the handshake is over here before it fails there
		}
		for range 50 {
			if _, err := conn.Write(make([]byte, 1000)); err != nil {
				t.Fatalf("write: %v", err)
			}
		}
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.ReadAll(conn); err == nil || !strings.Contains(err.Error(), "tls: certificate required") {
			t.Errorf("read: %v", err)
		}
		conn.Close()
	}
}

// A connection that speaks neither TLS nor HTTP is closed.
func TestNoiseOnATLSPort(t *testing.T) {
	certificate, _ := credentials(t)
	p := start(t, Config{TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}}, nil)
	for _, noise := range []string{"\x00\x01\x02\x03\x04\x05", "ssh-2.0", "\x16\x03\x01\xff\xff"} {
		conn, err := net.Dial("tcp", p.address)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, noise)
		conn.(*net.TCPConn).CloseWrite()
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		if answer, _ := io.ReadAll(conn); strings.Contains(string(answer), "HTTP") {
			t.Errorf("%q was answered %q", noise, answer)
		}
		conn.Close()
	}
	p.stop()
	if said := p.log.String(); !strings.Contains(said, `hint="the client speaks neither TLS nor HTTP"`) {
		t.Errorf("logged %s", said)
	}
}

func TestATLSClientOfAPlainPort(t *testing.T) {
	p := start(t, Config{}, nil)
	for range 20 {
		conn, err := tls.Dial("tcp", p.address, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			conn.Close()
			t.Fatal("a TLS handshake with a cleartext port")
		}
	}
	p.stop()
	if said := p.log.String(); strings.Count(said, `msg="a client speaks TLS to this port, which does not" remote=127.0.0.1:`) != 10 ||
		!strings.Contains(said, "serve with --tls-cert and --tls-key, or have the client use http://") {
		t.Errorf("logged %s", said)
	}
}

func TestThePageIsForTLSAloneOnceItCameByIt(t *testing.T) {
	certificate, roots := credentials(t)
	p := start(t, Config{TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}}, nil)
	plain := start(t, Config{}, nil)
	for _, test := range []struct{ url, host, want string }{
		{"https://" + p.address, "roster.example.com", "max-age=31536000"},
		{"https://" + p.address, "localhost", ""},
		{"https://" + p.address, "127.0.0.1:50051", ""},
		{"http://" + plain.address, "roster.example.com", ""},
	} {
		for _, http2 := range []bool{false, true} {
			request, err := http.NewRequest("GET", test.url+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Host = test.host
			response, err := tlsClient(t, http2 && strings.HasPrefix(test.url, "https"), &tls.Config{RootCAs: roots}).Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if got := response.Header.Get("Strict-Transport-Security"); got != test.want || response.StatusCode != 200 {
				t.Errorf("%s as %s: %d, %q, want %q", test.url, test.host, response.StatusCode, got, test.want)
			}
		}
	}
}
