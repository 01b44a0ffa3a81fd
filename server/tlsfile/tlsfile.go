// Package tlsfile makes the TLS configuration of a port from files: the certificate, its key and,
// for mutual TLS, the CA certificates that sign the clients' certificates. Files that change are
// reloaded without a restart and without losing a connection.
//
//	files, err := tlsfile.Open(tlsfile.Config{Cert: "cert.pem", Key: "key.pem", Log: log})
//	if err != nil {
//		return err
//	}
//	go files.Watch(ctx)
//	server := &http.Server{TLSConfig: files.TLS()}
//
// Files are PEM. A certificate's file has the leaf first and then its chain (RFC 8446 §4.4.2).
// Connections that are open when a file changes keep the certificate with which they were made.
//
// It does not fetch certificates and does not check revocation lists: a client certificate is
// accepted until it expires or until its CA certificate is removed from the file.
package tlsfile

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"example.com/roster/server/internal/follow"
)

const (
	// defaultInterval is how often the files are read. A change takes effect at the second reading
	// that finds it.
	defaultInterval = 2 * time.Second
	// expirySoon is how long before a certificate expires the warnings begin, and warnEvery how
	// often they are repeated.
	expirySoon = 14 * 24 * time.Hour
	warnEvery  = 24 * time.Hour
)

// Config names the files.
type Config struct {
	// Cert is the certificate with its chain, Key its private key.
	Cert, Key string
	// ClientCA, if set, has CA certificates. A client without a certificate signed by one of them
	// fails the handshake.
	ClientCA string
	// Interval is how often Watch reads the files; 0 means 2 s.
	Interval time.Duration
	// Log gets a line when files were reloaded or could not be, and warnings of expiry; nil drops
	// them.
	Log *slog.Logger
}

// Files is a TLS configuration that follows its files. It is safe for concurrent use.
type Files struct {
	config Config
	files  *follow.Files[credentials]

	mu       sync.Mutex // for the two below
	warnings []warning  // what was last logged about expiry, and when
	warned   time.Time
}

// credentials are what the files contained when they were read.
type credentials struct {
	tls  *tls.Config
	cert validity
	cas  []*validity // of ClientCA
}

// Open reads the files for the first time. Its errors name the file and say what to do. A
// certificate that has expired or is not valid yet is logged and served: this machine's clock may
// be wrong.
func Open(config Config) (*Files, error) {
	if config.Interval == 0 {
		config.Interval = defaultInterval
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	f := &Files{config: config}
	files, err := follow.Open(follow.Config[credentials]{
		Read:  config.read,
		Make:  config.parse,
		Admit: func(current, next *credentials) error { return next.noWorseThan(current, time.Now()) },
		// Half of a file can be valid: a shorter chain, or fewer CA certificates.
		Confirm:      true,
		Interval:     config.Interval,
		Changed:      f.changed,
		Failed:       f.failed,
		AfterReading: f.warnOfExpiry,
	})
	if err != nil {
		return nil, err
	}
	f.files = files
	f.warnOfKey()
	f.warnOfExpiry(time.Now())
	return f, nil
}

// TLS returns the configuration of a port: TLS 1.2 or later, HTTP/2 or HTTP/1.1 by ALPN. Each new
// connection uses the files as they were loaded last.
func (f *Files) TLS() *tls.Config {
	// Session tickets are encrypted with the keys of this outer configuration, which never changes,
	// so a session can be resumed after the certificate was replaced. It cannot be resumed after
	// the client's CA was removed: since Go 1.26 crypto/tls resumes a session only if the client's
	// chain still ends in ClientCAs and has not expired.
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: nextProtos(),
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return f.files.Current().tls, nil
		},
	}
}

func nextProtos() []string { return []string{"h2", "http/1.1"} }

// NotAfter returns when the certificate that is served expires: the earliest expiry in its chain.
func (f *Files) NotAfter() time.Time { return f.files.Current().cert.notAfter }

// SelfSigned reports whether the certificate that is served is self-signed, so that clients have to
// be configured to trust it.
func (f *Files) SelfSigned() bool { return f.files.Current().cert.selfSigned }

// Reloads returns how often the files were reloaded, and how often they could not be used.
func (f *Files) Reloads() (reloaded, refused uint64) { return f.files.Reloads() }

// Watch reloads the files when they change, until ctx is done.
func (f *Files) Watch(ctx context.Context) { f.files.Watch(ctx) }

// Reload reads the files now, and does not wait for a second reading to find the same.
func (f *Files) Reload() { f.files.Reload() }

func (f *Files) changed(c *credentials) {
	f.config.Log.Info("new TLS files are in use", "certificate", f.config.Cert,
		"names", c.cert.names, "not_after", c.cert.notAfter.UTC())
	f.warnOfKey()
}

func (f *Files) failed(err error) {
	f.config.Log.Warn("the TLS files have changed and cannot be used: the port keeps using the previous ones", "error", err)
}

// noWorseThan is an error if c has a certificate that is not valid now while that of current is.
func (c *credentials) noWorseThan(current *credentials, now time.Time) error {
	if current.cert.at(now) != nil {
		return nil
	}
	if err := c.cert.at(now); err != nil {
		return fmt.Errorf("%w; the one in use is valid until %s", err, date(current.cert.notAfter))
	}
	return nil
}

// warnOfExpiry logs which certificates have expired or soon will: when that changes, and once a
// day.
func (f *Files) warnOfExpiry(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.files.Current()
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
	for _, one := range append([]*validity{&c.cert}, c.cas...) {
		switch err := one.at(now); {
		case errors.As(err, new(expiredError)):
			found = append(found, warning{"a TLS certificate has expired: renew it, or correct this machine's clock if it is wrong", one})
		case err != nil:
			found = append(found, warning{"a TLS certificate is not valid yet: wait, or correct this machine's clock if it is wrong", one})
		case one.notAfter.Sub(now) < expirySoon:
			found = append(found, warning{"a TLS certificate expires soon: renew it", one})
		}
	}
	if c.cert.hosts == 0 {
		found = append(found, warning{"the TLS certificate names no host (subjectAltName), so no client will accept it", &c.cert})
	}
	return found
}

// warnOfKey logs a warning if every user of this machine can read the key.
func (f *Files) warnOfKey() {
	if mode, open := readableByOthers(f.config.Key); open {
		f.config.Log.Warn("every user of this machine can read the TLS key: chmod o-r it",
			"file", f.config.Key, "mode", mode.String())
	}
}
