package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/client"
	"example.com/roster/server/tlsfile/certtest"
)

// credentials are the files of a test over TLS: ca.pem, the server's cert.pem
// and key.pem, and in folders of clients a certificate and a key each.
type credentials struct {
	folder  string
	ca      *certtest.CA
	pair    certtest.Pair
	clients map[string][2]string // certificate and key by name
}

func (c credentials) file(name string) string { return filepath.Join(c.folder, name) }

// newCredentials makes an issuer, a server's certificate for localhost, and
// certificates of clients: bob's is good, the others are what their names say.
func newCredentials(t *testing.T) credentials {
	t.Helper()
	c := credentials{folder: t.TempDir(), ca: certtest.NewCA(t, "Roster test CA"), clients: make(map[string][2]string)}
	c.ca.Write(t, c.folder)
	c.pair = c.ca.Issue(t, certtest.For("localhost", "127.0.0.1"))
	c.pair.Write(t, c.folder)
	expired, early := certtest.Named("expired"), certtest.Named("early")
	expired.NotAfter = time.Now().Add(-time.Hour)
	early.NotBefore = time.Now().Add(time.Hour)
	for name, pair := range map[string]certtest.Pair{
		"bob":     c.ca.Issue(t, certtest.Named("bob")),
		"mallory": certtest.NewCA(t, "Another CA").Issue(t, certtest.Named("mallory")),
		"expired": c.ca.Issue(t, expired),
		"early":   c.ca.Issue(t, early),
	} {
		folder := c.file(name)
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		cert, key := pair.Write(t, folder)
		c.clients[name] = [2]string{cert, key}
	}
	return c
}

// show are the flags that show a client's certificate; "" is none.
func (c credentials) show(name string) []string {
	if name == "" {
		return nil
	}
	return []string{"--cert", c.clients[name][0], "--key", c.clients[name][1]}
}

// config is what a Go client needs to call the server as name.
func (c credentials) config(t *testing.T, name string) *tls.Config {
	t.Helper()
	config := &tls.Config{RootCAs: c.ca.Pool()}
	if name != "" {
		pair, err := tls.LoadX509KeyPair(c.clients[name][0], c.clients[name][1])
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

// serveTLS serves with them, and returns the port's https URL.
func serveTLS(t *testing.T, c credentials, arguments ...string) (p *process, url string) {
	t.Helper()
	p, address := serve(t, append([]string{"--tls-cert", c.file("cert.pem"), "--tls-key", c.file("key.pem")}, arguments...)...)
	return p, "https://localhost" + address[strings.LastIndex(address, ":"):]
}

func plain(url string) string { return "http" + strings.TrimPrefix(url, "https") }

// Go and curl over every protocol and version of HTTP, without and with a
// certificate of the client.
func TestTLS(t *testing.T) {
	c := newCredentials(t)
	for name, arguments := range map[string][]string{"": nil, "bob": {"--tls-client-ca", c.file("ca.pem")}} {
		for _, engine := range []string{"fast", "std"} {
			t.Run(name+" "+engine, func(t *testing.T) {
				p, url := serveTLS(t, c, append(arguments, "--http2", engine)...)
				for _, protocol := range []client.Protocol{client.GRPC, client.GRPCWeb, client.Connect} {
					caller, err := client.New(url, client.Config{Protocol: protocol, TLS: c.config(t, name)})
					if err != nil {
						t.Fatal(err)
					}
					defer caller.Close()
					users, err := caller.Users(t.Context(), []int32{1, 2})
					if err != nil || len(users) != 2 || users[0].Name != "Leila Dubois" {
						t.Errorf("Go, %v: %v, %v", protocol, users, err)
					}
					get := append([]string{"get", "1", "--server", url, "--protocol", protocol.String(), "--timeout", "20s", "--ca", c.file("ca.pem")}, c.show(name)...)
					if got := roster(t, get...); got.code != 0 || !strings.Contains(got.stdout, "Leila Dubois") {
						t.Errorf("%v: exit %d: %s%s", get, got.code, got.stdout, got.stderr)
					}
				}
				health := append([]string{"health", "--server", url, "--timeout", "20s", "--ca", c.file("ca.pem")}, c.show(name)...)
				if got := roster(t, health...); got.code != 0 {
					t.Errorf("%v: exit %d: %s", health, got.code, got.stderr)
				}
				for flag, version := range map[string]string{"--http1.1": "1.1", "--http2": "2"} {
					got := run(t, exec.Command("curl", append([]string{"-sS", "--noproxy", "*", "--max-time", "20", flag, "--cacert", c.file("ca.pem"),
						"-w", " HTTP/%{http_version}", "-H", "content-type: application/json", "-d", `{"userIDs":[1]}`, url + "/MyService/User"}, c.show(name)...)...))
					if got.code != 0 || !strings.Contains(got.stdout, "Leila Dubois") || !strings.HasSuffix(got.stdout, "HTTP/"+version) {
						t.Errorf("curl %s: exit %d: %s%s", flag, got.code, got.stdout, got.stderr)
					}
				}
				if code := p.stop(terminate); code != 0 || strings.Contains(p.log(), `"level":"WARN"`) {
					t.Errorf("exit %d, logged %s", code, p.log())
				}
			})
		}
	}
}

// The system's own list of issuers is used where no --ca is given.
func TestTLSWithTheSystemsIssuers(t *testing.T) {
	c := newCredentials(t)
	_, url := serveTLS(t, c)
	get := exec.Command(binary, "get", "1", "--server", url, "--timeout", "20s")
	get.Env = append(os.Environ(), "SSL_CERT_FILE="+c.file("ca.pem"))
	if got := run(t, get); got.code != 0 || !strings.Contains(got.stdout, "Leila Dubois") {
		t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
}

// What a person sees when TLS does not come about.
func TestWhatIsSaidOfTLS(t *testing.T) {
	c, other := newCredentials(t), newCredentials(t)
	template := func(change func(*x509.Certificate)) credentials {
		one := c
		one.folder = t.TempDir()
		certificate := certtest.For("localhost")
		change(certificate)
		c.ca.Issue(t, certificate).Write(t, one.folder)
		return one
	}
	now := time.Now()
	_, good := serveTLS(t, c)
	_, mutual := serveTLS(t, c, "--tls-client-ca", c.file("ca.pem"))
	_, expired := serveTLS(t, template(func(one *x509.Certificate) { one.NotAfter = now.Add(-time.Hour) }))
	_, early := serveTLS(t, template(func(one *x509.Certificate) { one.NotBefore = now.Add(time.Hour) }))
	_, elsewhere := serveTLS(t, template(func(one *x509.Certificate) { one.DNSNames = []string{"roster.example.org"} }))
	_, address := serve(t)
	empty := write(t, c.file("empty.pem"), "")
	trust := []string{"--ca", c.file("ca.pem")}
	for _, test := range []struct {
		name, url string
		arguments []string
		code      int
		want      []string
	}{
		{"an issuer that is not trusted", good, nil, 1, []string{"the server's certificate is not trusted; trust its issuer, or use a name that is in it", "unknown authority"}},
		{"the wrong CA", good, []string{"--ca", other.file("ca.pem")}, 1, []string{"trust its issuer", "unknown authority"}},
		{"expired", expired, trust, 1, []string{"renew it on the server, or correct this machine's clock, which says 20"}},
		{"not valid yet", early, trust, 1, []string{"correct this machine's clock, which says 20", "is before"}},
		{"the wrong name", elsewhere, trust, 1, []string{"use a name that is in it", "certificate is valid for roster.example.org, not localhost"}},
		{"no client certificate", mutual, trust, 1, []string{"the server refused the TLS handshake (tls: certificate required); check the client certificate"}},
		{"a client certificate of another CA", mutual, append(trust, c.show("mallory")...), 1, []string{"check the client certificate (its issuer and dates", "unknown certificate authority"}},
		{"a client certificate that has expired", mutual, append(trust, c.show("expired")...), 1, []string{"expired on 20", "this machine's clock"}},
		{"a client certificate that is not valid yet", mutual, append(trust, c.show("early")...), 1, []string{"is not valid before 20", "this machine's clock"}},
		{"plain on a TLS port", plain(good), nil, 1, []string{"the server speaks TLS and was called without; use https://"}},
		{"plain on a TLS port that asks for certificates", plain(mutual), nil, 1, []string{"the server speaks TLS and was called without; use https://"}},
		{"TLS on a cleartext port", "https://" + address, trust, 1, []string{"the server speaks cleartext HTTP and was called with TLS; use http://"}},
		{"no such CA", good, []string{"--ca", "none.pem"}, 1, []string{"--ca: TLS CA none.pem: no such file or directory"}},
		{"an empty CA", good, []string{"--ca", empty}, 1, []string{"empty.pem: is empty"}},
		{"a folder for a CA", good, []string{"--ca", c.folder}, 1, []string{"is a directory"}},
		{"a key for a CA", good, []string{"--ca", c.file("key.pem")}, 1, []string{"has a private key and no certificate"}},
		{"no such certificate", mutual, append(trust, "--cert", "none.pem", "--key", c.clients["bob"][1]), 1, []string{"--cert, --key: TLS certificate none.pem: no such file or directory"}},
		{"the key of another", mutual, append(trust, "--cert", c.clients["bob"][0], "--key", c.clients["mallory"][1]), 1, []string{"private key does not match public key"}},
		{"a certificate without a key", mutual, append(trust, "--cert", c.clients["bob"][0]), 2, []string{"--cert and --key go together"}},
		{"a CA for a plain server", plain(good), trust, 2, []string{"--ca, --cert and --key are for TLS", "use https://"}},
	} {
		for _, protocol := range []string{"grpc", "connect"} {
			got := roster(t, append([]string{"get", "1", "--server", test.url, "--timeout", "20s", "--protocol", protocol}, test.arguments...)...)
			for _, want := range test.want {
				if got.code != test.code || !strings.Contains(got.stderr, want) {
					t.Errorf("%s, %s: exit %d, want %d and %q: %s", test.name, protocol, got.code, test.code, want, got.stderr)
				}
			}
		}
	}
}

// What the server refuses to start with, and what it only warns of.
func TestTLSFilesOfTheServer(t *testing.T) {
	c, other := newCredentials(t), newCredentials(t)
	cert, key, ca := c.file("cert.pem"), c.file("key.pem"), c.file("ca.pem")
	for _, test := range []struct {
		name      string
		arguments []string
		code      int
		want      string
	}{
		{"no key", []string{"--tls-cert", cert}, 2, "--tls-cert and --tls-key go together"},
		{"no certificate", []string{"--tls-key", key}, 2, "--tls-cert and --tls-key go together"},
		{"a client CA alone", []string{"--tls-client-ca", ca}, 2, "--tls-client-ca needs --tls-cert and --tls-key"},
		{"no such file", []string{"--tls-cert", "none.pem", "--tls-key", key}, 1, "TLS certificate none.pem: no such file or directory"},
		{"a directory", []string{"--tls-cert", cert, "--tls-key", c.folder}, 1, "is a directory: name the PEM file in it"},
		{"an empty file", []string{"--tls-cert", write(t, c.file("empty"), ""), "--tls-key", key}, 1, "empty: is empty"},
		{"no PEM", []string{"--tls-cert", write(t, c.file("bad"), "hello"), "--tls-key", key}, 1, "bad: has no PEM in it"},
		{"a key for a certificate", []string{"--tls-cert", key, "--tls-key", key}, 1, "has a private key and no certificate: are the files the other way round?"},
		{"the key of another", []string{"--tls-cert", cert, "--tls-key", other.file("key.pem")}, 1, "private key does not match public key"},
		{"a client CA that is none", []string{"--tls-cert", cert, "--tls-key", key, "--tls-client-ca", key}, 1, "TLS client CA"},
	} {
		got := roster(t, append([]string{"serve", "--addr", "localhost:0", "--store", filepath.Join(t.TempDir(), "r.db")}, test.arguments...)...)
		if got.code != test.code || !strings.Contains(got.stderr, test.want) {
			t.Errorf("%s: exit %d, want %d and %q: %s", test.name, got.code, test.code, test.want, got.stderr)
		}
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	p, _ := serveTLS(t, c)
	if !strings.Contains(p.log(), "every user of this machine can read the TLS key: chmod o-r it") {
		t.Errorf("logged %s", p.log())
	}
}

func TestTLS11IsRefused(t *testing.T) {
	c := newCredentials(t)
	p, url := serveTLS(t, c)
	config := c.config(t, "")
	config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	_, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), config)
	if err == nil || !strings.Contains(err.Error(), "protocol version not supported") {
		t.Errorf("%v", err)
	}
	p.line(func(line string) string {
		if strings.Contains(line, "TLS handshake failed") && strings.Contains(line, "the client must speak TLS 1.2 or later") {
			return line
		}
		return ""
	})
}

// The certificate is replaced under load: calls go on, on the connections that
// were there and on new ones, and new ones are shown the new certificate.
func TestTLSReloadUnderLoad(t *testing.T) {
	c := newCredentials(t)
	p, url := serveTLS(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	var calls, connections atomic.Int64
	failed := make(chan error, 100)
	report := func(err error) {
		if ctx.Err() == nil && err != nil {
			select {
			case failed <- err:
			default:
			}
		}
	}
	for _, protocol := range []client.Protocol{client.GRPC, client.GRPCWeb, client.Connect} {
		caller, err := client.New(url, client.Config{Protocol: protocol, TLS: c.config(t, "")})
		if err != nil {
			t.Fatal(err)
		}
		defer caller.Close()
		callers.Go(func() {
			for ctx.Err() == nil {
				report(caller.Health(ctx)) // no retries
				calls.Add(1)
			}
		})
	}
	// A connection for each call; serials are of the certificates seen.
	serials := make(chan string, 1)
	callers.Go(func() {
		for last := ""; ctx.Err() == nil; {
			transport := &http.Transport{TLSClientConfig: c.config(t, ""), DisableKeepAlives: true, ForceAttemptHTTP2: connections.Load()%2 == 0}
			request, _ := http.NewRequestWithContext(ctx, http.MethodPost, url+"/MyService/Health", strings.NewReader("{}"))
			request.Header.Set("Content-Type", "application/json")
			response, err := transport.RoundTrip(request)
			report(err)
			if err != nil {
				continue
			}
			_, err = io.Copy(io.Discard, response.Body)
			report(err)
			response.Body.Close()
			transport.CloseIdleConnections()
			connections.Add(1)
			if serial := response.TLS.PeerCertificates[0].SerialNumber.String(); serial != last {
				last = serial
				select {
				case serials <- serial:
				case <-ctx.Done():
				}
			}
		}
	})
	seen := func() string {
		select {
		case serial := <-serials:
			return serial
		case err := <-failed:
			t.Fatal(err)
		case <-time.After(60 * time.Second):
			t.Fatalf("no new certificate after a minute: %s", p.log())
		}
		return ""
	}
	serialOf := func(pair certtest.Pair) string { return pair.TLS(t).Leaf.SerialNumber.String() }
	if got := seen(); got != serialOf(c.pair) {
		t.Fatalf("the first certificate is %s", got)
	}
	for range 2 {
		next := c.ca.Issue(t, certtest.For("localhost"))
		next.Write(t, c.folder)
		if got := seen(); got != serialOf(next) {
			t.Errorf("the certificate is %s, want %s", got, serialOf(next))
		}
	}
	// At once, by a signal.
	next := c.ca.Issue(t, certtest.For("localhost"))
	next.Write(t, c.folder)
	if err := p.command.Process.Signal(hangUp); err != nil {
		t.Fatal(err)
	}
	if got := seen(); got != serialOf(next) {
		t.Errorf("the certificate after SIGHUP is %s, want %s", got, serialOf(next))
	}
	// A pair that does not match is never served.
	before := connections.Load()
	if err := os.WriteFile(c.file("key.pem"), c.pair.Key, 0o600); err != nil {
		t.Fatal(err)
	}
	p.line(func(line string) string {
		if strings.Contains(line, "private key does not match public key") {
			return line
		}
		return ""
	})
	for target := before + 10; connections.Load() < target && ctx.Err() == nil; {
		select {
		case serial := <-serials:
			t.Errorf("a certificate %s was served out of nowhere", serial)
		case err := <-failed:
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	cancel()
	callers.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	t.Logf("%d calls on three connections, %d on as many", calls.Load(), connections.Load())
	if strings.Count(p.log(), "new TLS files are in use") != 3 {
		t.Errorf("logged %s", p.log())
	}
}

// The Go client's errors are what programs decide by.
func TestReasonsOfTheGoClientOverTLS(t *testing.T) {
	c := newCredentials(t)
	_, mutual := serveTLS(t, c, "--tls-client-ca", c.file("ca.pem"))
	_, address := serve(t)
	for _, test := range []struct {
		url    string
		config *tls.Config
		reason client.Reason
	}{
		{mutual, nil, client.ReasonCertificate},
		{mutual, c.config(t, ""), client.ReasonTLSRefused},
		{mutual, c.config(t, "mallory"), client.ReasonTLSRefused},
		{mutual, c.config(t, "expired"), client.ReasonTLSRefused},
		{plain(mutual), nil, client.ReasonServerUsesTLS},
		{"https://" + address, nil, client.ReasonServerUsesPlain},
	} {
		for _, protocol := range []client.Protocol{client.GRPC, client.GRPCWeb, client.Connect} {
			caller, err := client.New(test.url, client.Config{Protocol: protocol, TLS: test.config})
			if err != nil {
				t.Fatal(err)
			}
			err = caller.WaitReady(t.Context())
			var failure *client.Error
			if !errors.As(err, &failure) || failure.Reason != test.reason ||
				!slices.Contains([]connect.Code{connect.CodeUnavailable, connect.CodeFailedPrecondition}, connect.CodeOf(err)) {
				t.Errorf("%s, %v: %v, want %v", test.url, protocol, err, test.reason)
			}
			caller.Close()
		}
	}
}
