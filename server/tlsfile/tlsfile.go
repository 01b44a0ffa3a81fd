// Package tlsfile keeps the TLS of a port in step with files: the certificate,
// its key and, for mutual TLS, the issuers of the clients' certificates. A file
// that changes is taken up without a restart and without a connection lost.
//
//	files, err := tlsfile.Open(tlsfile.Config{Cert: "cert.pem", Key: "key.pem", Log: log})
//	if err != nil {
//		return err
//	}
//	go files.Watch(ctx)
//	server := &http.Server{TLSConfig: files.TLS()}
//
// Files are PEM. A certificate's file has its chain after it, the leaf first
// (RFC 8446 §4.4.2); connections that are open when a file changes keep what
// they agreed on.
//
// It does not fetch certificates, and knows no revocation lists: whom a client
// CA once signed is let in until that certificate expires or the CA leaves the
// file.
package tlsfile

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// defaultInterval is how often the files are read. A change is taken up at
	// the second reading that finds it.
	defaultInterval = 2 * time.Second
	// expirySoon is how long before the end of a certificate the warnings begin,
	// warnEvery how often they come.
	expirySoon = 14 * 24 * time.Hour
	warnEvery  = 24 * time.Hour
)

// Config names the files.
type Config struct {
	// Cert is the certificate with its chain, Key its private key.
	Cert, Key string
	// ClientCA, if set, has the certificates of which one must have signed the
	// client's: a client without such a certificate fails the handshake.
	ClientCA string
	// Interval is how often Watch reads the files; 0 means 2 s.
	Interval time.Duration
	// Log gets what was taken up and what could not be; nil drops it.
	Log *slog.Logger
}

// Files is the TLS that files say. It is safe for concurrent use.
type Files struct {
	config  Config
	current atomic.Pointer[credentials]

	mu        sync.Mutex // held by whoever reads the files
	last      [sha256.Size]byte
	complaint string    // what was logged about the files as they are now
	warnings  []warning // what was logged of expiry last, and when
	warned    time.Time
}

// credentials are the files at one time.
type credentials struct {
	digest  [sha256.Size]byte // of all files
	tls     *tls.Config
	cert    validity
	issuers []*validity
}

// Open reads the files for the first time. An error names the file and what to
// do about it. A certificate that has expired, or is not valid yet, is logged
// and served: it may be this machine's clock that is off.
func Open(config Config) (*Files, error) {
	if config.Interval == 0 {
		config.Interval = defaultInterval
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	f := &Files{config: config}
	texts, err := f.read()
	if err != nil {
		return nil, err
	}
	c, err := texts.parse()
	if err != nil {
		return nil, err
	}
	f.take(c)
	f.warnOfKey()
	f.warnOfExpiry(time.Now())
	return f, nil
}

// TLS is the configuration of a port: TLS 1.2 or later, HTTP/2 or HTTP/1.1 by
// ALPN, and for each new connection the files as they were read last.
func (f *Files) TLS() *tls.Config {
	// The keys of session tickets are those of this one configuration, whatever
	// it returns below, so a session outlives a new certificate. It does not
	// outlive its issuer: since Go 1.26 crypto/tls resumes a session only if the
	// client's chain still ends in ClientCAs and has not expired.
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: nextProtos(),
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return f.current.Load().tls, nil
		},
	}
}

func nextProtos() []string { return []string{"h2", "http/1.1"} }

// NotAfter is when the certificate that is served expires, or the first
// certificate of its chain that does.
func (f *Files) NotAfter() time.Time { return f.current.Load().cert.notAfter }

// SelfSigned reports whether the certificate that is served is its own issuer,
// so that clients have to be given it.
func (f *Files) SelfSigned() bool { return f.current.Load().cert.selfSigned }

// Watch reads the files again and again until ctx is done.
func (f *Files) Watch(ctx context.Context) {
	ticker := time.NewTicker(f.config.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			f.reload(false)
			f.warnOfExpiry(now)
		}
	}
}

// Reload reads the files now and takes them up as they are.
func (f *Files) Reload() { f.reload(true) }

// reload takes the files up if they changed and can be used. Unless settled
// says that nobody is writing them, they must have been the same twice: half a
// file can be a shorter chain, or a list of fewer issuers.
func (f *Files) reload(settled bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	texts, err := f.read()
	if err != nil {
		f.last = [sha256.Size]byte{}
		f.complain(err)
		return
	}
	digest := texts.digest()
	current := f.current.Load()
	if digest == current.digest {
		f.last, f.complaint = digest, ""
		return
	}
	if digest != f.last && !settled {
		f.last = digest
		return
	}
	f.last = digest
	next, err := texts.parse()
	if err == nil {
		err = next.noBetterThan(current, time.Now())
	}
	if err != nil {
		f.complain(err)
		return
	}
	f.take(next)
	f.complaint = ""
	f.config.Log.Info("new TLS files are in use", "certificate", f.config.Cert,
		"names", next.cert.names, "not_after", next.cert.notAfter.UTC())
	f.warnOfKey()
}

func (f *Files) take(c *credentials) { f.current.Store(c) }

// complain says once what is wrong with the files as they are now.
func (f *Files) complain(err error) {
	if err.Error() == f.complaint {
		return
	}
	f.complaint = err.Error()
	f.config.Log.Warn("the TLS files have changed and cannot be used: the port goes on with those it has", "error", err)
}

// noBetterThan is an error if c has a certificate that nobody would accept and
// old one that is good.
func (c *credentials) noBetterThan(old *credentials, now time.Time) error {
	if old.cert.at(now) != nil {
		return nil
	}
	if err := c.cert.at(now); err != nil {
		return fmt.Errorf("%w; the one in use is valid until %s", err, date(old.cert.notAfter))
	}
	return nil
}

// warnOfExpiry logs what has expired or soon will, when that becomes so and
// once a day.
func (f *Files) warnOfExpiry(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.current.Load()
	warnings := c.warnings(now)
	if slices.Equal(warnings, f.warnings) && now.Sub(f.warned) < warnEvery {
		return
	}
	f.warnings, f.warned = warnings, now
	for _, one := range warnings {
		f.config.Log.Warn(one.text, "file", one.of.file, "names", one.of.names,
			"not_before", one.of.notBefore.UTC(), "not_after", one.of.notAfter.UTC(), "now", now.UTC())
	}
}

type warning struct {
	text string
	of   *validity
}

func (c *credentials) warnings(now time.Time) (found []warning) {
	for _, one := range append([]*validity{&c.cert}, c.issuers...) {
		switch err := one.at(now); {
		case errors.As(err, new(expiredError)):
			found = append(found, warning{"a TLS certificate has expired: renew it, or correct this machine's clock if it is off", one})
		case err != nil:
			found = append(found, warning{"a TLS certificate is not valid yet: wait, or correct this machine's clock if it is off", one})
		case one.notAfter.Sub(now) < expirySoon:
			found = append(found, warning{"a TLS certificate expires soon: renew it", one})
		}
	}
	if c.cert.hosts == 0 {
		found = append(found, warning{"the TLS certificate names no host (subjectAltName), so no client will accept it", &c.cert})
	}
	return found
}

// warnOfKey logs that others can read the key.
func (f *Files) warnOfKey() {
	if mode, open := readableByOthers(f.config.Key); open {
		f.config.Log.Warn("every user of this machine can read the TLS key: chmod o-r it",
			"file", f.config.Key, "mode", mode.String())
	}
}
