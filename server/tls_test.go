package server

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// credentials are a certificate for 127.0.0.1 and the roots that trust it.
func credentials(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	issuer := httptest.NewTLSServer(nil)
	issuer.Close()
	roots := x509.NewCertPool()
	roots.AddCert(issuer.Certificate())
	return issuer.TLS.Certificates[0], roots
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
