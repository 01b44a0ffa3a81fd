// Package certtest makes certificates for tests when they run: none is committed, so none expires.
//
//	ca := certtest.NewCA(t, "Test CA")
//	cert, key := ca.Issue(t, certtest.For("localhost")).Write(t, t.TempDir())
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA is a certificate authority.
type CA struct {
	// Certificate is the CA's own certificate.
	Certificate *x509.Certificate
	// PEM is the CA's certificate in PEM.
	PEM []byte
	key *ecdsa.PrivateKey
}

// Pair is a certificate and its key, in PEM.
type Pair struct{ Cert, Key []byte }

// NewCA makes a CA with a self-signed certificate that is valid for 90 days.
func NewCA(t testing.TB, name string) *CA {
	t.Helper()
	return newCA(t, name, func(*x509.Certificate) {})
}

// NewExpiredCA makes a CA whose certificate expired an hour ago.
func NewExpiredCA(t testing.TB, name string) *CA {
	t.Helper()
	return newCA(t, name, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
}

func newCA(t testing.TB, name string, change func(*x509.Certificate)) *CA {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	change(template)
	return sign(t, template, template, key, key)
}

// For returns the template of a certificate for servers and clients, for these host names and IP
// addresses, valid for 90 days.
func For(hosts ...string) *x509.Certificate {
	template := &x509.Certificate{
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return template
}

// Named returns the template of a certificate that has only a common name.
func Named(name string) *x509.Certificate {
	template := For()
	template.Subject.CommonName = name
	return template
}

// Issue makes a certificate from template, signed by the CA.
func (ca *CA) Issue(t testing.TB, template *x509.Certificate) Pair {
	t.Helper()
	key := newKey(t)
	if template.SerialNumber == nil {
		template.SerialNumber = serial(t)
	}
	return pair(t, sign(t, template, ca.Certificate, key, ca.key))
}

// SelfSigned makes a self-signed certificate for localhost and 127.0.0.1.
func SelfSigned(t testing.TB) Pair {
	t.Helper()
	key := newKey(t)
	template := For("localhost", "127.0.0.1")
	template.SerialNumber = serial(t)
	template.Subject.CommonName = "localhost"
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage |= x509.KeyUsageCertSign
	return pair(t, sign(t, template, template, key, key))
}

// Pool returns a pool with the CA's certificate.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate)
	return pool
}

// Write writes the CA's certificate to ca.pem in a folder and returns its path.
func (ca *CA) Write(t testing.TB, folder string) string {
	t.Helper()
	return write(t, filepath.Join(folder, "ca.pem"), ca.PEM)
}

// TLS returns the pair as crypto/tls needs it.
func (p Pair) TLS(t testing.TB) tls.Certificate {
	t.Helper()
	certificate, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// Write writes cert.pem and key.pem to a folder, replacing files that are there.
func (p Pair) Write(t testing.TB, folder string) (certFile, keyFile string) {
	t.Helper()
	return write(t, filepath.Join(folder, "cert.pem"), p.Cert), write(t, filepath.Join(folder, "key.pem"), p.Key)
}

func write(t testing.TB, name string, text []byte) string {
	t.Helper()
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		t.Fatal(err)
	}
	return number
}

func sign(t testing.TB, template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) *CA {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &CA{certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key}
}

func pair(t testing.TB, signed *CA) Pair {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(signed.key)
	if err != nil {
		t.Fatal(err)
	}
	return Pair{signed.PEM, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
}
