package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certificate writes a certificate for localhost, signed by itself.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile = write(t, filepath.Join(dir, "cert.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	keyFile = write(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return certFile, keyFile
}

func TestTLS(t *testing.T) {
	certFile, keyFile := certificate(t)
	_, address := serve(t, "--sample", "--store", filepath.Join(t.TempDir(), "roster.db"), "--tls-cert", certFile, "--tls-key", keyFile)
	url := "https://localhost" + address[strings.LastIndex(address, ":"):]
	for _, protocol := range []string{"grpc", "grpcweb", "connect"} {
		get := exec.Command(binary, "get", "1", "--server", url, "--protocol", protocol, "--timeout", "20s")
		get.Env = append(os.Environ(), "SSL_CERT_FILE="+certFile)
		if got := run(t, get); got.code != 0 || !strings.Contains(got.stdout, "Leila Dubois") {
			t.Errorf("%s: exit %d: %s%s", protocol, got.code, got.stdout, got.stderr)
		}
	}
	for flag, version := range map[string]string{"--http1.1": "1.1", "--http2": "2"} {
		got := run(t, exec.Command("curl", "-sS", "--noproxy", "*", "--max-time", "20", flag, "--cacert", certFile, "-w", " HTTP/%{http_version}",
			"-H", "content-type: application/json", "-d", `{"userIDs":[1]}`, url+"/MyService/User"))
		if got.code != 0 || !strings.Contains(got.stdout, "Leila Dubois") || !strings.HasSuffix(got.stdout, "HTTP/"+version) {
			t.Errorf("curl %s: exit %d: %s%s", flag, got.code, got.stdout, got.stderr)
		}
	}
	if got := roster(t, "get", "1", "--server", url, "--timeout", "20s"); got.code != 1 || !strings.Contains(got.stderr, "certificate") {
		t.Errorf("a certificate that nobody trusts: exit %d: %s", got.code, got.stderr)
	}
	if got := roster(t, "get", "1", "--server", "http"+strings.TrimPrefix(url, "https"), "--timeout", "2s"); got.code != 1 || !strings.Contains(got.stderr, "TLS") {
		t.Errorf("plain on a TLS port: exit %d: %s", got.code, got.stderr)
	}
	for want, arguments := range map[string][]string{
		"--tls-cert and --tls-key go together": {"--tls-cert", certFile},
		"no such file or directory":            {"--tls-cert", "none.pem", "--tls-key", keyFile},
		"has no PEM in it":                     {"--tls-cert", write(t, filepath.Join(t.TempDir(), "bad.pem"), "no PEM"), "--tls-key", keyFile},
	} {
		got := roster(t, append([]string{"serve", "--addr", "localhost:0", "--store", filepath.Join(t.TempDir(), "r.db")}, arguments...)...)
		if got.code == 0 || !strings.Contains(got.stderr, want) {
			t.Errorf("%v: exit %d, want %q: %s", arguments, got.code, want, got.stderr)
		}
	}
}
