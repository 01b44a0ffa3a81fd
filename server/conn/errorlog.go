package conn

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"example.com/roster/internal/lograte"
)

// What a stranger can make the port log is bounded: so many lines of a kind at
// once, and one each logEvery after that.
const (
	logBurst = 10
	logEvery = 10 * time.Second
)

// An ErrorLog makes log lines of what net/http has to say, most of which is about connections that
// never became calls. Each kind has a bound of its own, so that a scan of the port hides nothing else.
type ErrorLog struct {
	log                                    *slog.Logger
	handshakes, hangUps, cleartext, panics *lograte.Limit
	full, rest                             *lograte.Limit
}

// NewErrorLog returns an ErrorLog that writes to log.
func NewErrorLog(log *slog.Logger) *ErrorLog {
	limit := func() *lograte.Limit { return lograte.New(rate.Every(logEvery), logBurst) }
	return &ErrorLog{log: log, handshakes: limit(), hangUps: limit(), cleartext: limit(), panics: limit(), full: limit(), rest: limit()}
}

// Logger is what an http.Server takes for its ErrorLog.
func (l *ErrorLog) Logger() *log.Logger { return log.New(l, "", 0) }

// Write implements io.Writer: p is one line of net/http, or a panic's many.
func (l *ErrorLog) Write(p []byte) (int, error) {
	text := string(bytes.TrimSpace(p))
	text = strings.TrimPrefix(text, "http: ")
	if rest, ok := strings.CutPrefix(text, "TLS handshake error from "); ok {
		remote, reason, _ := strings.Cut(rest, ": ")
		l.handshake(remote, reason)
		return len(p), nil
	}
	if rest, ok := strings.CutPrefix(text, "panic serving "); ok {
		what, stack, _ := strings.Cut(rest, "\n")
		l.write(l.panics, slog.LevelError, "a request made the server panic", slog.String("request", what), slog.String("stack", stack))
		return len(p), nil
	}
	l.write(l.rest, slog.LevelWarn, text)
	return len(p), nil
}

// handshake logs a TLS handshake that failed.
func (l *ErrorLog) handshake(remote, reason string) {
	if hungUp(reason) {
		// A load balancer's check of the port does this every few seconds.
		l.write(l.hangUps, slog.LevelDebug, "a client left during the TLS handshake", slog.String("remote", remote), slog.String("error", reason))
		return
	}
	attributes := []slog.Attr{slog.String("remote", remote), slog.String("error", reason)}
	if hint := handshakeHint(reason); hint != "" {
		attributes = append(attributes, slog.String("hint", hint))
	}
	l.write(l.handshakes, slog.LevelWarn, "TLS handshake failed", attributes...)
}

// tlsOnCleartext logs a client that speaks TLS to a port without.
func (l *ErrorLog) tlsOnCleartext(remote string) {
	l.write(l.cleartext, slog.LevelWarn, "a client speaks TLS to this port, which does not", slog.String("remote", remote),
		slog.String("hint", "serve with --tls-cert and --tls-key, or have the client use http:// (an insecure channel)"))
}

// tooManyConnections logs a connection that was refused because of the maximum.
func (l *ErrorLog) tooManyConnections(remote string, max int) {
	l.write(l.full, slog.LevelWarn, "a connection was refused: the port has its maximum of them", slog.String("remote", remote),
		slog.Int("max", max), slog.String("hint", "raise --max-connections, or find the clients that open so many"))
}

func (l *ErrorLog) write(limit *lograte.Limit, level slog.Level, message string, attributes ...slog.Attr) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	if leftOut, ok := limit.Allow(); ok {
		l.log.LogAttrs(context.Background(), level, message, append(attributes, lograte.LeftOut(leftOut)...)...)
	}
}

func hungUp(reason string) bool {
	return reason == "EOF" || strings.HasSuffix(reason, "connection reset by peer") ||
		strings.HasSuffix(reason, "broken pipe") || strings.HasSuffix(reason, "i/o timeout")
}

// handshakeHint says what to do about the failure of a handshake. Its text is
// all that net/http hands on.
func handshakeHint(reason string) string {
	for _, one := range []struct{ text, hint string }{
		{cleartextError, "the client must use https:// (a channel with TLS credentials)"},
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
