package server

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// What a stranger can make the port log is bounded: so many lines of a kind at
// once, and one each logEvery after that.
const (
	logBurst = 10
	logEvery = 10 * time.Second
)

// An errorLog makes log lines of what net/http has to say, most of which is
// about connections that never became calls. Each kind has a bound of its own,
// so that a scan of the port hides nothing else.
type errorLog struct {
	log                                *slog.Logger
	handshakes, hangUps, plain, panics kind
	rest                               kind
}

// kind is a kind of line.
type kind struct {
	limiter *rate.Limiter
	dropped atomic.Int64 // lines since the last that was logged
}

func newErrorLog(log *slog.Logger) *errorLog {
	l := &errorLog{log: log}
	for _, k := range []*kind{&l.handshakes, &l.hangUps, &l.plain, &l.panics, &l.rest} {
		k.limiter = rate.NewLimiter(rate.Every(logEvery), logBurst)
	}
	return l
}

// logger is what an http.Server takes for its ErrorLog.
func (l *errorLog) logger() *log.Logger { return log.New(l, "", 0) }

// Write implements io.Writer: p is one line of net/http, or a panic's many.
func (l *errorLog) Write(p []byte) (int, error) {
	text := string(bytes.TrimSpace(p))
	text = strings.TrimPrefix(text, "http: ")
	if rest, ok := strings.CutPrefix(text, "TLS handshake error from "); ok {
		remote, reason, _ := strings.Cut(rest, ": ")
		l.handshake(remote, reason)
		return len(p), nil
	}
	if rest, ok := strings.CutPrefix(text, "panic serving "); ok {
		what, stack, _ := strings.Cut(rest, "\n")
		l.write(&l.panics, slog.LevelError, "a request made the server panic", "request", what, "stack", stack)
		return len(p), nil
	}
	l.write(&l.rest, slog.LevelWarn, text)
	return len(p), nil
}

// handshake logs a TLS handshake that failed.
func (l *errorLog) handshake(remote, reason string) {
	if hungUp(reason) {
		// A load balancer's check of the port does this every few seconds.
		l.write(&l.hangUps, slog.LevelDebug, "a client left during the TLS handshake", "remote", remote, "error", reason)
		return
	}
	attributes := []any{"remote", remote, "error", reason}
	if hint := handshakeHint(reason); hint != "" {
		attributes = append(attributes, "hint", hint)
	}
	l.write(&l.handshakes, slog.LevelWarn, "TLS handshake failed", attributes...)
}

// tlsOnPlain logs a client that speaks TLS to a port without.
func (l *errorLog) tlsOnPlain(remote string) {
	l.write(&l.plain, slog.LevelWarn, "a client speaks TLS to this port, which does not", "remote", remote,
		"hint", "serve with --tls-cert and --tls-key, or have the client use http:// (an insecure channel)")
}

func (l *errorLog) write(k *kind, level slog.Level, message string, attributes ...any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	if !k.limiter.Allow() {
		k.dropped.Add(1)
		return
	}
	if dropped := k.dropped.Swap(0); dropped > 0 {
		attributes = append(attributes, "not_logged_before", dropped)
	}
	l.log.Log(context.Background(), level, message, attributes...)
}

func hungUp(reason string) bool {
	return reason == "EOF" || strings.HasSuffix(reason, "connection reset by peer") ||
		strings.HasSuffix(reason, "broken pipe") || strings.HasSuffix(reason, "i/o timeout")
}

// handshakeHint says what to do about the failure of a handshake. Its text is
// all that net/http hands on.
func handshakeHint(reason string) string {
	for _, one := range []struct{ text, hint string }{
		{plainClientText, "the client must use https:// (a channel with TLS credentials)"},
		{"first record does not look like a TLS handshake", "what the client speaks is neither TLS nor HTTP"},
		{"client didn't provide a certificate", "the client must show a certificate that --tls-client-ca signed"},
		{"signed by unknown authority", "the client's certificate is not one that --tls-client-ca signed"},
		{"has expired or is not yet valid", "the client must renew its certificate, or this machine's clock is off"},
		{"incompatible key usage", "the client's certificate is not for clients (extendedKeyUsage clientAuth)"},
		{"unsupported versions", "the client must speak TLS 1.2 or later"},
		{"remote error: tls: unknown certificate authority", "the client does not trust the issuer of --tls-cert"},
		{"remote error: tls: bad certificate", "the client does not accept --tls-cert: see what it says of its issuer and names"},
		{"remote error: tls: expired certificate", "the client finds --tls-cert expired: renew it, or the client's clock is off"},
	} {
		if strings.Contains(reason, one.text) {
			return one.hint
		}
	}
	return ""
}
