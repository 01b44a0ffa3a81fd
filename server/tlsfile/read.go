package tlsfile

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"
)

// maxFileBytes bounds a file; a bundle of all public CA certificates has 250 KB.
const maxFileBytes = 4 << 20

// read returns the contents of the certificate, the key and, if there is one, the client CA.
func (config Config) read() ([][]byte, error) {
	cert, err := readFile("certificate", config.Cert)
	if err != nil {
		return nil, err
	}
	key, err := readFile("key", config.Key)
	if err != nil {
		return nil, err
	}
	if config.ClientCA == "" {
		return [][]byte{cert, key}, nil
	}
	ca, err := readFile("client CA", config.ClientCA)
	return [][]byte{cert, key, ca}, err
}

// parse makes credentials of what read returned.
func (config Config) parse(contents [][]byte) (*credentials, error) {
	certificate, chain, err := parsePair(config.Cert, contents[0], config.Key, contents[1])
	if err != nil {
		return nil, err
	}
	c := &credentials{
		cert: validityOf(config.Cert, chain),
		tls: &tls.Config{
			Certificates: []tls.Certificate{certificate},
			MinVersion:   tls.VersionTLS12,
			NextProtos:   nextProtos(),
		},
	}
	if config.ClientCA == "" {
		return c, nil
	}
	cas, err := parseCertificates("client CA", config.ClientCA, contents[2])
	if err != nil {
		return nil, err
	}
	c.tls.ClientAuth = tls.RequireAndVerifyClientCert
	c.tls.ClientCAs = x509.NewCertPool()
	for _, ca := range cas {
		c.tls.ClientCAs.AddCert(ca)
		c.cas = append(c.cas, new(validityOf(config.ClientCA, []*x509.Certificate{ca})))
	}
	return c, nil
}

// Pair reads a certificate with its chain and its key once, for a client. Its errors name the file.
// A certificate that has expired or is not valid yet is an error.
func Pair(certFile, keyFile string) (tls.Certificate, error) {
	certText, err := readFile("certificate", certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyText, err := readFile("key", keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	certificate, chain, err := parsePair(certFile, certText, keyFile, keyText)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	if err := validityOf(certFile, chain).at(now); err != nil {
		return tls.Certificate{}, fmt.Errorf("%w; renew it, or correct this machine's clock if %s is not now", err, date(now))
	}
	return certificate, nil
}

// Pool reads CA certificates to trust, once.
func Pool(file string) (*x509.CertPool, error) {
	text, err := readFile("CA", file)
	if err != nil {
		return nil, err
	}
	certificates, err := parseCertificates("CA", file, text)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, one := range certificates {
		pool.AddCert(one)
	}
	return pool, nil
}

// readFile reads a file that must be regular (reading a FIFO would block), not empty and at most
// maxFileBytes long.
func readFile(role, name string) ([]byte, error) {
	fail := func(why string) ([]byte, error) { return nil, fmt.Errorf("TLS %s %s: %s", role, name, why) }
	info, err := os.Stat(name)
	if err != nil {
		return fail(bare(err))
	}
	switch {
	case info.IsDir():
		return fail("is a directory: name the PEM file in it")
	case !info.Mode().IsRegular():
		return fail("is not a regular file")
	}
	file, err := os.Open(name)
	if err != nil {
		return fail(bare(err))
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	switch {
	case err != nil:
		return fail(bare(err))
	case len(text) == 0:
		return fail("is empty")
	case len(text) > maxFileBytes:
		return fail("is longer than 4 MiB, and so no PEM file")
	}
	return text, nil
}

// bare is the text of err without the name of the file, which the message already has.
func bare(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}

// blocks returns the PEM blocks of a text. Unlike package pem it does not skip a damaged block but
// fails.
func blocks(text []byte) ([]*pem.Block, error) {
	const begin = "-----BEGIN "
	var found []*pem.Block
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		found = append(found, block)
	}
	switch {
	case !bytes.Contains(text, []byte(begin)):
		return nil, errors.New("has no PEM in it (no line -----BEGIN …)")
	case bytes.Count(text, []byte(begin)) != len(found):
		return nil, errors.New("has a PEM block that is damaged or cut off")
	}
	return found, nil
}

// parseCertificates returns all certificates of a file and skips other blocks.
func parseCertificates(role, name string, text []byte) ([]*x509.Certificate, error) {
	fail := func(err error) ([]*x509.Certificate, error) { return nil, fmt.Errorf("TLS %s %s: %w", role, name, err) }
	all, err := blocks(text)
	if err != nil {
		return fail(err)
	}
	var found []*x509.Certificate
	key := false
	for _, block := range all {
		if block.Type != "CERTIFICATE" {
			key = key || isKey(block)
			continue
		}
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fail(err)
		}
		found = append(found, one)
	}
	switch {
	case len(found) > 0:
		return found, nil
	case key:
		return fail(errors.New("has a private key and no certificate: are the files the other way round?"))
	}
	return fail(errors.New("has no certificate in it (no -----BEGIN CERTIFICATE-----)"))
}

func isKey(block *pem.Block) bool { return bytes.HasSuffix([]byte(block.Type), []byte("PRIVATE KEY")) }

func parsePair(certFile string, certText []byte, keyFile string, keyText []byte) (tls.Certificate, []*x509.Certificate, error) {
	fail := func(err error) (tls.Certificate, []*x509.Certificate, error) {
		return tls.Certificate{}, nil, err
	}
	chain, err := parseCertificates("certificate", certFile, certText)
	if err != nil {
		return fail(err)
	}
	inKey, err := blocks(keyText)
	if err != nil {
		return fail(fmt.Errorf("TLS key %s: %w", keyFile, err))
	}
	at := slices.IndexFunc(inKey, isKey)
	switch {
	case at < 0:
		return fail(fmt.Errorf("TLS key %s: has no private key in it: are the files the other way round?", keyFile))
	case inKey[at].Type == "ENCRYPTED PRIVATE KEY" || inKey[at].Headers["DEK-Info"] != "":
		return fail(fmt.Errorf("TLS key %s: is encrypted: decrypt it, as with openssl pkey -in %s", keyFile, keyFile))
	}
	certificate, err := tls.X509KeyPair(certText, keyText)
	if err != nil {
		return fail(fmt.Errorf("TLS certificate %s and key %s: %w", certFile, keyFile, err))
	}
	return certificate, chain, nil
}

// validity says when a chain of certificates is valid, and for which names.
type validity struct {
	file                string
	names               []string // of hosts, or the subject if there are none
	notBefore, notAfter time.Time
	hosts               int // how many of names are of hosts
	selfSigned          bool
}

func validityOf(file string, chain []*x509.Certificate) validity {
	leaf := chain[0]
	v := validity{
		file: file, names: slices.Clone(leaf.DNSNames), notBefore: leaf.NotBefore, notAfter: leaf.NotAfter,
		selfSigned: bytes.Equal(leaf.RawIssuer, leaf.RawSubject),
	}
	for _, ip := range leaf.IPAddresses {
		v.names = append(v.names, ip.String())
	}
	v.hosts = len(v.names)
	if v.hosts == 0 {
		v.names = []string{leaf.Subject.String()}
	}
	for _, one := range chain[1:] {
		if one.NotBefore.After(v.notBefore) {
			v.notBefore = one.NotBefore
		}
		if one.NotAfter.Before(v.notAfter) {
			v.notAfter = one.NotAfter
		}
	}
	return v
}

// at returns an error if the chain is not valid at this time.
func (v validity) at(now time.Time) error {
	switch {
	case now.After(v.notAfter):
		return expiredError{v}
	case now.Before(v.notBefore):
		return fmt.Errorf("TLS certificate %s: is not valid before %s", v.file, date(v.notBefore))
	}
	return nil
}

type expiredError struct{ validity }

func (e expiredError) Error() string {
	return fmt.Sprintf("TLS certificate %s: expired on %s", e.file, date(e.notAfter))
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// readableByOthers reports whether users outside the file's group may read it.
func readableByOthers(file string) (fs.FileMode, bool) {
	info, err := os.Stat(file)
	if err != nil {
		return 0, false
	}
	return info.Mode().Perm(), info.Mode().Perm()&0o004 != 0
}
