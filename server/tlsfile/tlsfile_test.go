package tlsfile

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/roster/server/tlsfile/certtest"
)

// logged collects what was logged, as text.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take returns what was logged since the last take.
func (l *logged) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// handshake connects a client to a server over TCP and returns both connection states after each
// side received a byte from the other.
func handshake(t *testing.T, server, client *tls.Config) (atServer, atClient tls.ConnectionState, err error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	type end struct {
		state tls.ConnectionState
		err   error
	}
	served := make(chan end, 1)
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			served <- end{err: err}
			return
		}
		defer raw.Close()
		conn := tls.Server(raw, server)
		_, err = io.ReadFull(conn, make([]byte, 1))
		if err == nil {
			_, err = conn.Write([]byte("s"))
		}
		served <- end{conn.ConnectionState(), err}
		// Stay open until the client has read everything, an alert included.
		io.Copy(io.Discard, raw)
	}()
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	conn := tls.Client(raw, client)
	_, err = conn.Write([]byte("c"))
	if err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	raw.(*net.TCPConn).CloseWrite()
	s := <-served
	if err == nil {
		err = s.err
	}
	return s.state, conn.ConnectionState(), err
}

// serialOf returns the serial number of the certificate that a new connection gets.
func serialOf(t *testing.T, f *Files, ca *certtest.CA) string {
	t.Helper()
	_, seen, err := handshake(t, f.TLS(), &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	return seen.PeerCertificates[0].SerialNumber.String()
}

func serial(t *testing.T, p certtest.Pair) string {
	t.Helper()
	return p.TLS(t).Leaf.SerialNumber.String()
}

func mustOpen(t *testing.T, config Config) *Files {
	t.Helper()
	f, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A change is noticed however the files are replaced.
func TestReload(t *testing.T) {
	rename := func(t *testing.T, folder string, next certtest.Pair) {
		staging := t.TempDir()
		cert, key := next.Write(t, staging)
		must(t, os.Rename(cert, filepath.Join(folder, "cert.pem")))
		must(t, os.Rename(key, filepath.Join(folder, "key.pem")))
	}
	ways := map[string]func(t *testing.T, folder string, next certtest.Pair){
		"rewritten in place": func(t *testing.T, folder string, next certtest.Pair) { next.Write(t, folder) },
		"renamed over":       rename,
		"in place, of the same size and times": func(t *testing.T, folder string, next certtest.Pair) {
			for name, text := range map[string][]byte{"cert.pem": next.Cert, "key.pem": next.Key} {
				name = filepath.Join(folder, name)
				before, err := os.Stat(name)
				must(t, err)
				must(t, os.WriteFile(name, text, 0o600))
				must(t, os.Chtimes(name, before.ModTime(), before.ModTime()))
			}
		},
	}
	for name, replace := range ways {
		t.Run(name, func(t *testing.T) {
			ca, folder, log := certtest.NewCA(t, "CA"), t.TempDir(), &logged{}
			old, next := ca.Issue(t, certtest.For("localhost")), ca.Issue(t, certtest.For("localhost"))
			cert, key := old.Write(t, folder)
			f := mustOpen(t, Config{Cert: cert, Key: key, Log: log.logger()})
			if got := serialOf(t, f, ca); got != serial(t, old) {
				t.Errorf("serves %s, want %s", got, serial(t, old))
			}
			f.files.Poll()
			replace(t, folder, next)
			f.files.Poll()
			if got := serialOf(t, f, ca); got != serial(t, old) {
				t.Error("loaded at the first reading, which may be of half a file")
			}
			f.files.Poll()
			if got := serialOf(t, f, ca); got != serial(t, next) {
				t.Errorf("serves %s after the second reading, want %s", got, serial(t, next))
			}
			if said := log.take(); !strings.Contains(said, `msg="new TLS files are in use"`) || strings.Contains(said, "WARN") {
				t.Errorf("logged %s", said)
			}
		})
	}
}

// In a secret or config map of Kubernetes the files are links into ..data, which is a link to a
// folder and is replaced by a rename.
func TestReloadOfASwappedFolder(t *testing.T) {
	ca, folder := certtest.NewCA(t, "CA"), t.TempDir()
	publish := func(version string, p certtest.Pair) {
		must(t, os.Mkdir(filepath.Join(folder, version), 0o755))
		p.Write(t, filepath.Join(folder, version))
		must(t, os.Symlink(version, filepath.Join(folder, "..data_tmp")))
		must(t, os.Rename(filepath.Join(folder, "..data_tmp"), filepath.Join(folder, "..data")))
	}
	old, next := ca.Issue(t, certtest.For("localhost")), ca.Issue(t, certtest.For("localhost"))
	publish("..2026_01", old)
	for _, name := range []string{"cert.pem", "key.pem"} {
		must(t, os.Symlink(filepath.Join("..data", name), filepath.Join(folder, name)))
	}
	f := mustOpen(t, Config{Cert: filepath.Join(folder, "cert.pem"), Key: filepath.Join(folder, "key.pem")})
	publish("..2026_02", next)
	must(t, os.RemoveAll(filepath.Join(folder, "..2026_01")))
	f.files.Poll()
	f.files.Poll()
	if got := serialOf(t, f, ca); got != serial(t, next) {
		t.Errorf("serves %s, want %s", got, serial(t, next))
	}
}

// Broken files are logged once and never served, and correct ones are loaded afterwards.
func TestReloadKeepsWhatWorks(t *testing.T) {
	ca := certtest.NewCA(t, "CA")
	next := ca.Issue(t, certtest.For("localhost"))
	expired, future := certtest.For("localhost"), certtest.For("localhost")
	expired.NotAfter = time.Now().Add(-time.Minute)
	future.NotBefore = time.Now().Add(time.Minute)
	for name, test := range map[string]struct {
		spoil func(t *testing.T, folder string)
		want  string
	}{
		"the certificate came first":     {func(t *testing.T, folder string) { writeFile(t, folder, "cert.pem", next.Cert) }, "private key does not match public key"},
		"the key came first":             {func(t *testing.T, folder string) { writeFile(t, folder, "key.pem", next.Key) }, "private key does not match public key"},
		"an empty file":                  {func(t *testing.T, folder string) { writeFile(t, folder, "cert.pem", nil) }, "cert.pem: is empty"},
		"half a file":                    {func(t *testing.T, folder string) { writeFile(t, folder, "cert.pem", next.Cert[:len(next.Cert)/2]) }, "cert.pem: has a PEM block that is damaged or cut off"},
		"no file":                        {func(t *testing.T, folder string) { must(t, os.Remove(filepath.Join(folder, "key.pem"))) }, "key.pem: no such file or directory"},
		"a client CA of nonsense":        {func(t *testing.T, folder string) { writeFile(t, folder, "ca.pem", []byte("?")) }, "ca.pem: has no PEM in it"},
		"a certificate that has expired": {func(t *testing.T, folder string) { ca.Issue(t, expired).Write(t, folder) }, "cert.pem: expired on"},
		"a certificate for next year":    {func(t *testing.T, folder string) { ca.Issue(t, future).Write(t, folder) }, "cert.pem: is not valid before"},
	} {
		t.Run(name, func(t *testing.T) {
			folder, log := t.TempDir(), &logged{}
			old := ca.Issue(t, certtest.For("localhost"))
			cert, key := old.Write(t, folder)
			issuers := ca.Write(t, folder)
			f := mustOpen(t, Config{Cert: cert, Key: key, ClientCA: issuers, Log: log.logger()})
			before := f.files.Current()
			test.spoil(t, folder)
			for range 5 {
				f.files.Poll()
			}
			f.Reload()
			if f.files.Current() != before {
				t.Error("it was loaded")
			}
			if said := log.take(); strings.Count(said, "level=WARN") != 1 || !strings.Contains(said, test.want) {
				t.Errorf("logged %s\nwant one line with %q", said, test.want)
			}
			next.Write(t, folder)
			ca.Write(t, folder)
			f.files.Poll()
			f.files.Poll()
			if got := f.files.Current().tls.Certificates[0].Leaf.SerialNumber.String(); got != serial(t, next) {
				t.Errorf("the complete pair was not loaded:\n%s", log.take())
			}
		})
	}
}

func writeFile(t *testing.T, folder, name string, text []byte) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(folder, name), text, 0o600))
}

// An expired certificate is replaced even by one that is not valid yet: clients refuse both.
func TestAnExpiredCertificateIsReplaced(t *testing.T) {
	ca, folder, log := certtest.NewCA(t, "CA"), t.TempDir(), &logged{}
	expired := certtest.For("localhost")
	expired.NotAfter = time.Now().Add(-time.Minute)
	cert, key := ca.Issue(t, expired).Write(t, folder)
	f := mustOpen(t, Config{Cert: cert, Key: key, Log: log.logger()})
	if said := log.take(); !strings.Contains(said, "a TLS certificate has expired: renew it, or correct this machine's clock") {
		t.Errorf("logged %s", said)
	}
	next := ca.Issue(t, certtest.For("localhost"))
	next.Write(t, folder)
	f.Reload()
	if got := serialOf(t, f, ca); got != serial(t, next) {
		t.Errorf("serves %s, want %s", got, serial(t, next))
	}
}

func TestWatchReloadsAndWarnsDaily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, folder, log := certtest.NewCA(t, "CA"), t.TempDir(), &logged{}
		template := certtest.For("localhost")
		template.NotAfter = time.Now().Add(16 * 24 * time.Hour)
		cert, key := ca.Issue(t, template).Write(t, folder)
		f := mustOpen(t, Config{Cert: cert, Key: key, Interval: time.Minute, Log: log.logger()})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			f.Watch(ctx)
		}()
		if !f.NotAfter().Equal(template.NotAfter.Truncate(time.Second)) {
			t.Errorf("NotAfter is %v, want %v", f.NotAfter(), template.NotAfter)
		}
		const day = 24 * time.Hour
		time.Sleep(2*day - time.Hour)
		if said := log.take(); said != "" {
			t.Errorf("14 days and an hour before the end: %s", said)
		}
		time.Sleep(day)
		if said := log.take(); strings.Count(said, "a TLS certificate expires soon: renew it") != 1 || strings.Count(said, "\n") != 1 {
			t.Errorf("within 14 days: %s", said)
		}
		time.Sleep(5 * day)
		if said := log.take(); strings.Count(said, "a TLS certificate expires soon: renew it") != 5 {
			t.Errorf("in five days: %s", said)
		}
		time.Sleep(8*day + 2*time.Hour)
		if said := log.take(); !strings.Contains(said, "has expired") || !strings.Contains(said, "this machine's clock") {
			t.Errorf("after the end: %s", said)
		}
		ca.Issue(t, certtest.For("localhost")).Write(t, folder)
		time.Sleep(2*time.Minute + time.Second)
		if said := log.take(); !strings.Contains(said, "new TLS files are in use") {
			t.Errorf("two intervals after the change: %s", said)
		}
		cancel()
		<-ended
	})
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	ca := certtest.NewCA(t, "CA")
	good, other := ca.Issue(t, certtest.For("localhost")), ca.Issue(t, certtest.For("localhost"))
	folder := t.TempDir()
	cert, key := good.Write(t, folder)
	issuers := ca.Write(t, folder)
	file := func(name string, text []byte) string {
		writeFile(t, folder, name, text)
		return filepath.Join(folder, name)
	}
	fifo := filepath.Join(folder, "fifo")
	must(t, syscall.Mkfifo(fifo, 0o600))
	for name, test := range map[string]struct {
		config Config
		want   string
	}{
		"no such certificate":     {Config{Cert: "none.pem", Key: key}, "TLS certificate none.pem: no such file or directory"},
		"no such key":             {Config{Cert: cert, Key: "none.pem"}, "TLS key none.pem: no such file or directory"},
		"no such client CA":       {Config{Cert: cert, Key: key, ClientCA: "none.pem"}, "TLS client CA none.pem: no such file or directory"},
		"a directory":             {Config{Cert: folder, Key: key}, folder + ": is a directory: name the PEM file in it"},
		"a FIFO":                  {Config{Cert: fifo, Key: key}, "fifo: is not a regular file"},
		"an empty file":           {Config{Cert: file("empty", nil), Key: key}, "empty: is empty"},
		"an empty client CA":      {Config{Cert: cert, Key: key, ClientCA: file("empty", nil)}, "TLS client CA " + folder + "/empty: is empty"},
		"no PEM":                  {Config{Cert: file("text", []byte("hello")), Key: key}, "text: has no PEM in it (no line -----BEGIN …)"},
		"a key for a certificate": {Config{Cert: key, Key: key}, "has a private key and no certificate: are the files the other way round?"},
		"a certificate for a key": {Config{Cert: cert, Key: cert}, "has no private key in it: are the files the other way round?"},
		"a key for a client CA":   {Config{Cert: cert, Key: key, ClientCA: key}, "has a private key and no certificate"},
		"a key of another":        {Config{Cert: cert, Key: file("other.pem", other.Key)}, "other.pem: tls: private key does not match public key"},
		"an encrypted key":        {Config{Cert: cert, Key: file("encrypted.pem", bytes.ReplaceAll(good.Key, []byte("PRIVATE"), []byte("ENCRYPTED PRIVATE")))}, "encrypted.pem: is encrypted: decrypt it, as with openssl pkey -in"},
		"a damaged client CA":     {Config{Cert: cert, Key: key, ClientCA: file("damaged", append(bytes.Clone(ca.PEM), good.Cert[:200]...))}, "damaged: has a PEM block that is damaged or cut off"},
		"another kind of PEM":     {Config{Cert: cert, Key: key, ClientCA: file("crl", []byte("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"))}, "crl: has no certificate in it"},
		"a file without end":      {Config{Cert: file("long", make([]byte, maxFileBytes+1)), Key: key}, "long: is longer than 4 MiB"},
	} {
		_, err := Open(test.config)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	if _, err := Open(Config{Cert: cert, Key: key, ClientCA: issuers}); err != nil {
		t.Error(err)
	}
}

func TestOpenWarns(t *testing.T) {
	ca := certtest.NewCA(t, "CA")
	late, soon := certtest.For("localhost"), certtest.For("localhost")
	late.NotBefore = time.Now().Add(time.Hour)
	late.NotAfter = late.NotBefore.Add(365 * 24 * time.Hour)
	soon.NotAfter = time.Now().Add(13 * 24 * time.Hour)
	fine := certtest.For("localhost")
	fine.NotAfter = time.Now().Add(365 * 24 * time.Hour)
	unnamed := certtest.Named("localhost")
	unnamed.NotAfter = fine.NotAfter
	for name, test := range map[string]struct {
		template *x509.Certificate
		ca       *certtest.CA
		mode     os.FileMode
		want     string
	}{
		"nothing to say":               {fine, nil, 0o640, ""},
		"not valid yet":                {late, nil, 0o600, "a TLS certificate is not valid yet: wait, or correct this machine's clock"},
		"expires soon":                 {soon, nil, 0o600, "a TLS certificate expires soon: renew it"},
		"a client CA that has expired": {fine, certtest.NewExpiredCA(t, "Old CA"), 0o600, "Old CA"},
		"a key for all to read":        {fine, nil, 0o644, "every user of this machine can read the TLS key: chmod o-r it"},
		"a common name alone":          {unnamed, nil, 0o600, "names no host (subjectAltName)"},
	} {
		folder, log := t.TempDir(), &logged{}
		config := Config{Log: log.logger()}
		config.Cert, config.Key = ca.Issue(t, test.template).Write(t, folder)
		if test.ca != nil {
			config.ClientCA = test.ca.Write(t, folder)
		}
		must(t, os.Chmod(config.Key, test.mode))
		mustOpen(t, config)
		said := log.take()
		if (said == "") != (test.want == "") || !strings.Contains(said, test.want) || strings.Count(said, "\n") > 1 {
			t.Errorf("%s: logged %q, want one line with %q", name, said, test.want)
		}
	}
}

// A chain is valid while all of its certificates are.
func TestValidityOfAChain(t *testing.T) {
	at := func(day int) time.Time { return time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC) }
	v := validityOf("cert.pem", []*x509.Certificate{{NotBefore: at(2), NotAfter: at(20)}, {NotBefore: at(1), NotAfter: at(10)}, {NotBefore: at(3), NotAfter: at(30)}})
	if !v.notBefore.Equal(at(3)) || !v.notAfter.Equal(at(10)) {
		t.Errorf("from %v to %v, want from the 3rd to the 10th", v.notBefore, v.notAfter)
	}
}

func TestVersionsAndALPN(t *testing.T) {
	ca, folder := certtest.NewCA(t, "CA"), t.TempDir()
	cert, key := ca.Issue(t, certtest.For("localhost")).Write(t, folder)
	f := mustOpen(t, Config{Cert: cert, Key: key})
	for _, test := range []struct {
		least, most uint16
		offer       []string
		protocol    string
		fails       string
	}{
		{tls.VersionTLS13, tls.VersionTLS13, []string{"h2", "http/1.1"}, "h2", ""},
		{tls.VersionTLS12, tls.VersionTLS12, []string{"h2", "http/1.1"}, "h2", ""},
		{tls.VersionTLS12, tls.VersionTLS13, []string{"http/1.1"}, "http/1.1", ""},
		{tls.VersionTLS12, tls.VersionTLS13, nil, "", ""},
		{tls.VersionTLS10, tls.VersionTLS11, []string{"h2"}, "", "protocol version not supported"},
		{tls.VersionTLS12, tls.VersionTLS13, []string{"spdy/3"}, "", "no application protocol"},
	} {
		_, seen, err := handshake(t, f.TLS(), &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost",
			MinVersion: test.least, MaxVersion: test.most, NextProtos: test.offer})
		if test.fails == "" && (err != nil || seen.NegotiatedProtocol != test.protocol || seen.Version != test.most) ||
			test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails)) {
			t.Errorf("%+v: agreed on %q in version %x, %v", test, seen.NegotiatedProtocol, seen.Version, err)
		}
	}
}

func TestClientCertificates(t *testing.T) {
	ca, others, folder := certtest.NewCA(t, "CA"), certtest.NewCA(t, "Other CA"), t.TempDir()
	cert, key := ca.Issue(t, certtest.For("localhost")).Write(t, folder)
	f := mustOpen(t, Config{Cert: cert, Key: key, ClientCA: ca.Write(t, folder)})
	expired, forServers := certtest.Named("bob"), certtest.Named("bob")
	expired.NotAfter = time.Now().Add(-time.Minute)
	forServers.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, test := range map[string]struct {
			shown []tls.Certificate
			want  string // in the error
		}{
			"of the CA":            {[]tls.Certificate{ca.Issue(t, certtest.Named("bob")).TLS(t)}, ""},
			"none":                 {nil, "certificate required|handshake failure"},
			"of another CA":        {[]tls.Certificate{others.Issue(t, certtest.Named("bob")).TLS(t)}, "certificate required|handshake failure|unknown certificate authority"},
			"expired":              {[]tls.Certificate{ca.Issue(t, expired).TLS(t)}, "expired certificate"},
			"for servers alone":    {[]tls.Certificate{ca.Issue(t, forServers).TLS(t)}, "bad certificate"},
			"signed by itself":     {[]tls.Certificate{certtest.SelfSigned(t).TLS(t)}, "certificate required|handshake failure|unknown certificate authority"},
			"the server's, reused": {[]tls.Certificate{f.files.Current().tls.Certificates[0]}, ""},
		} {
			at, _, err := handshake(t, f.TLS(), &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", Certificates: test.shown, MaxVersion: version})
			if test.want == "" {
				if err != nil || Identity(&at) == "" {
					t.Errorf("%s, version %x: identity %q, %v", name, version, Identity(&at), err)
				}
				continue
			}
			found := false
			for text := range strings.SplitSeq(test.want, "|") {
				found = found || err != nil && strings.Contains(err.Error(), text)
			}
			if !found || Identity(&at) != "" {
				t.Errorf("%s, version %x: identity %q, %v, want %q", name, version, Identity(&at), err, test.want)
			}
		}
	}
}

// A client that resumes a session sends no certificate again, but must still be accepted by the
// client CAs in use now.
func TestAResumedSessionNeedsACurrentClientCA(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		ca, next, folder := certtest.NewCA(t, "CA"), certtest.NewCA(t, "Next CA"), t.TempDir()
		cert, key := ca.Issue(t, certtest.For("localhost")).Write(t, folder)
		issuers := ca.Write(t, folder)
		f := mustOpen(t, Config{Cert: cert, Key: key, ClientCA: issuers})
		server := f.TLS()
		client := &tls.Config{
			RootCAs: ca.Pool(), ServerName: "localhost", MaxVersion: version,
			Certificates:       []tls.Certificate{ca.Issue(t, certtest.Named("bob")).TLS(t)},
			ClientSessionCache: tls.NewLRUClientSessionCache(10),
		}
		connect := func() (tls.ConnectionState, error) {
			at, _, err := handshake(t, server, client)
			return at, err
		}
		if at, err := connect(); err != nil || at.DidResume {
			t.Fatalf("first: resumed %v, %v", at.DidResume, err)
		}
		if at, err := connect(); err != nil || !at.DidResume || Identity(&at) != "bob" {
			t.Fatalf("second: resumed %v, identity %q, %v", at.DidResume, Identity(&at), err)
		}
		// Replacing the port's certificate ends no session.
		ca.Issue(t, certtest.For("localhost")).Write(t, folder)
		f.Reload()
		if at, err := connect(); err != nil || !at.DidResume {
			t.Errorf("with a new certificate: resumed %v, %v", at.DidResume, err)
		}
		// Both CAs, as during the change from one to the other.
		writeFile(t, folder, "ca.pem", append(bytes.Clone(ca.PEM), next.PEM...))
		f.Reload()
		if at, err := connect(); err != nil || Identity(&at) != "bob" {
			t.Errorf("with either issuer: identity %q, %v", Identity(&at), err)
		}
		next.Write(t, folder)
		f.Reload()
		if at, err := connect(); err == nil || at.DidResume {
			t.Errorf("version %x: a session whose client CA was removed: resumed %v, %v", version, at.DidResume, err)
		}
	}
}

func TestIdentity(t *testing.T) {
	spiffe, err := url.Parse("spiffe://example.org/batch/import")
	must(t, err)
	full := certtest.For("batch.example.org", "second.example.org")
	full.URIs = []*url.URL{spiffe}
	full.EmailAddresses = []string{"batch@example.org"}
	full.Subject.CommonName = "batch"
	noURI := *full
	noURI.URIs = nil
	noDNS := noURI
	noDNS.DNSNames = nil
	nameOnly := noDNS
	nameOnly.EmailAddresses = nil
	ca := certtest.NewCA(t, "CA")
	for want, template := range map[string]*x509.Certificate{
		"spiffe://example.org/batch/import": full,
		"batch.example.org":                 &noURI,
		"batch@example.org":                 &noDNS,
		"batch":                             &nameOnly,
		"":                                  certtest.For(),
	} {
		leaf := ca.Issue(t, template).TLS(t).Leaf
		verified := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf, ca.Certificate}}}
		if got := Identity(verified); got != want {
			t.Errorf("identity %q, want %q", got, want)
		}
		if got := Identity(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}); got != "" {
			t.Errorf("identity %q of a certificate that was not verified", got)
		}
	}
	if got := Identity(nil); got != "" {
		t.Errorf("identity %q without TLS", got)
	}
}

func BenchmarkIdentity(b *testing.B) {
	ca := certtest.NewCA(b, "CA")
	uri, dns := certtest.For(), certtest.For("batch.example.org")
	uri.URIs = []*url.URL{{Scheme: "spiffe", Host: "example.org", Path: "/batch/import"}}
	for name, template := range map[string]*x509.Certificate{"URI": uri, "DNS": dns} {
		b.Run(name, func(b *testing.B) {
			pair := ca.Issue(b, template)
			state := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{pair.TLS(b).Leaf}}}
			b.ReportAllocs()
			for b.Loop() {
				if Identity(state) == "" {
					b.Fatal("no identity")
				}
			}
		})
	}
}

// The cost of a reading that finds nothing new.
func BenchmarkReload(b *testing.B) {
	ca, folder := certtest.NewCA(b, "CA"), b.TempDir()
	cert, key := ca.Issue(b, certtest.For("localhost")).Write(b, folder)
	f, err := Open(Config{Cert: cert, Key: key, ClientCA: ca.Write(b, folder)})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		f.files.Poll()
	}
}

func TestPairAndPool(t *testing.T) {
	ca, folder := certtest.NewCA(t, "CA"), t.TempDir()
	expired := certtest.Named("bob")
	expired.NotAfter = time.Now().Add(-time.Minute)
	late := certtest.Named("bob")
	late.NotBefore = time.Now().Add(time.Minute)
	for want, template := range map[string]*x509.Certificate{
		"": certtest.Named("bob"), "expired on": expired, "is not valid before": late,
	} {
		cert, key := ca.Issue(t, template).Write(t, folder)
		_, err := Pair(cert, key)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "this machine's clock")) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if pool, err := Pool(ca.Write(t, folder)); err != nil || !pool.Equal(ca.Pool()) {
		t.Error(err)
	}
	if _, err := Pool(filepath.Join(folder, "key.pem")); err == nil || !strings.Contains(err.Error(), "has a private key and no certificate") {
		t.Errorf("%v", err)
	}
}
