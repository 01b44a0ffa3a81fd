// Package certtest makes the certificates that tests need, each when it is
// needed: none is committed, so none runs out.
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

// CA is an issuer of certificates.
type CA struct {
	// Certificate is its own.
	Certificate *x509.Certificate
	// PEM is the certificate as a file has it.
	PEM []byte
	key *ecdsa.PrivateKey
}

// Pair is a certificate and its key, as files have them.
type Pair struct{ Cert, Key []byte }

// NewCA makes an issuer that signs itself, valid for 90 days.
func NewCA(t testing.TB, name string) *CA {
	t.Helper()
	return newCA(t, name, func(*x509.Certificate) {})
}

// NewExpiredCA makes one that ran out an hour ago.
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

// For is a certificate for hosts and addresses, valid for 90 days, to show as a server or as a client. With no host it has none.
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

// Named is a certificate with a common name alone.
func Named(name string) *x509.Certificate {
	template := For()
	template.Subject.CommonName = name
	return template
}

// Issue signs what template says.
func (ca *CA) Issue(t testing.TB, template *x509.Certificate) Pair {
	t.Helper()
	key := newKey(t)
	if template.SerialNumber == nil {
		template.SerialNumber = serial(t)
	}
	return pair(t, sign(t, template, ca.Certificate, key, ca.key))
}

// SelfSigned is a certificate of localhost and 127.0.0.1 that is its own issuer.
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

// Pool has the issuer's certificate.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate)
	return pool
}

// Write writes the issuer's certificate to a file.
func (ca *CA) Write(t testing.TB, folder string) string {
	t.Helper()
	return write(t, filepath.Join(folder, "ca.pem"), ca.PEM)
}

// TLS is the pair as crypto/tls has it.
func (p Pair) TLS(t testing.TB) tls.Certificate {
	t.Helper()
	certificate, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// Write writes cert.pem and key.pem, over what may be there.
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
