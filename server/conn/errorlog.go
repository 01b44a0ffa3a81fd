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

// Anybody who reaches the port can cause these log lines, so their number is bounded: logBurst
// lines of a kind at once, and after that one in each logEvery.
const (
	logBurst = 10
	logEvery = 10 * time.Second
)

// An ErrorLog turns the error messages of net/http into structured log lines. Most of them are
// about connections that never carried a call. Each kind of message has a bound of its own, so that
// a scan of the port does not hide other messages.
type ErrorLog struct {
	log                                    *slog.Logger
	handshakes, hangUps, cleartext, panics *lograte.Limit
	full, proxy, rest                      *lograte.Limit
}

// NewErrorLog returns an ErrorLog that writes to log.
func NewErrorLog(log *slog.Logger) *ErrorLog {
	limit := func() *lograte.Limit { return lograte.New(rate.Every(logEvery), logBurst) }
	return &ErrorLog{log: log, handshakes: limit(), hangUps: limit(), cleartext: limit(), panics: limit(), full: limit(), proxy: limit(), rest: limit()}
}

// Logger returns the logger for [http.Server.ErrorLog].
func (l *ErrorLog) Logger() *log.Logger { return log.New(l, "", 0) }

// Write implements io.Writer. p is one message of net/http: a line, or a panic with its stack.
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

// handshake logs a failed TLS handshake.
func (l *ErrorLog) handshake(remote, reason string) {
	if hungUp(reason) {
		// Load balancers that check the port do this every few seconds.
		l.write(l.hangUps, slog.LevelDebug, "a client left during the TLS handshake", slog.String("remote", remote), slog.String("error", reason))
		return
	}
	attributes := []slog.Attr{slog.String("remote", remote), slog.String("error", reason)}
	if hint := handshakeHint(reason); hint != "" {
		attributes = append(attributes, slog.String("hint", hint))
	}
	l.write(l.handshakes, slog.LevelWarn, "TLS handshake failed", attributes...)
}

// tlsOnCleartext logs that a client spoke TLS to a cleartext port.
func (l *ErrorLog) tlsOnCleartext(remote string) {
	l.write(l.cleartext, slog.LevelWarn, "a client speaks TLS to this port, which does not", slog.String("remote", remote),
		slog.String("hint", "serve with --tls-cert and --tls-key, or have the client use http:// (an insecure channel)"))
}

// tooManyConnections logs a connection that was refused because of the maximum.
func (l *ErrorLog) tooManyConnections(remote string, max int) {
	l.write(l.full, slog.LevelWarn, "a connection was refused: the port has its maximum of them", slog.String("remote", remote),
		slog.Int("max", max), slog.String("hint", "raise --max-connections, or find the clients that open so many"))
}

// notProxied logs a connection that was refused because it is not one of a proxy that says for whom it
// connects.
func (l *ErrorLog) notProxied(remote, reason, hint string) {
	l.write(l.proxy, slog.LevelWarn, "a connection was refused: it has no usable header of the PROXY protocol", slog.String("remote", remote),
		slog.String("error", reason), slog.String("hint", hint))
}

func (l *ErrorLog) write(limit *lograte.Limit, level slog.Level, message string, attributes ...slog.Attr) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	if leftOut, ok := limit.Allow(); ok {
		l.log.LogAttrs(context.Background(), level, message, append(attributes, lograte.LeftOut(leftOut)...)...)
	}
}

// hungUp reports whether a handshake failed because the client closed the connection or fell
// silent.
func hungUp(reason string) bool {
	return reason == "EOF" || strings.HasSuffix(reason, "connection reset by peer") ||
		strings.HasSuffix(reason, "broken pipe") || strings.HasSuffix(reason, "i/o timeout")
}

// handshakeHint returns what to do about a failed handshake, empty if there is no advice. It goes
// by the text of the error, since net/http passes on nothing else.
func handshakeHint(reason string) string {
	for _, known := range []struct{ text, hint string }{
		{cleartextError, "the client must use https:// (a channel with TLS credentials)"},
		{"first record does not look like a TLS handshake", "the client speaks neither TLS nor HTTP"},
		{"client didn't provide a certificate", "the client must present a certificate signed by a CA of --tls-client-ca"},
		{"signed by unknown authority", "the client's certificate is not signed by a CA of --tls-client-ca"},
		{"has expired or is not yet valid", "the client must renew its certificate, or the clock of this machine is wrong"},
		{"incompatible key usage", "the client's certificate is not made for clients: its extendedKeyUsage lacks clientAuth"},
		{"unsupported versions", "the client must speak TLS 1.2 or later"},
		{"remote error: tls: unknown certificate authority", "the client does not trust the CA that signed --tls-cert"},
		{"remote error: tls: bad certificate", "the client rejects the certificate of --tls-cert: the client's own error tells whether for its CA or for its names"},
		{"remote error: tls: expired certificate", "the client considers --tls-cert expired: renew it, or correct the client's clock"},
	} {
		if strings.Contains(reason, known.text) {
			return known.hint
		}
	}
	return ""
}
