package diagnose

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"example.com/roster/client/internal/dial"
)

// greetTimeout is how long a probe that is connected waits for an answer: a server sends its
// SETTINGS before it does any work.
const greetTimeout = 500 * time.Millisecond

// answerKind is what the first bytes from a port are.
type answerKind int

const (
	noConnection  answerKind = iota // err says why
	answerNothing                   // no byte within greetTimeout
	answerHungUp                    // closed without a byte
	answerTLS                       // an alert, or a handshake that failed with err
	answerHTTP1
	answerHTTP2
	answerOther // text has it
)

// answer is how a port reacted to the start of an HTTP/2 connection.
type answer struct {
	kind                 answerKind
	text                 string // the first line received, where it helps
	err                  error
	tls                  bool // the handshake was completed
	certificateRequested bool // of the client, which is configured with none
}

// spokeTLS reports whether the peer spoke TLS, whether or not the handshake succeeded.
func (a answer) spokeTLS() bool { return a.tls || a.kind == answerTLS }

func (a answer) noConnection() (finding, bool) {
	reason, certain := reasonOfTransport(a.err)
	return finding{reason, ""}, certain
}

// unexplained is the finding for an answer that fits neither cleartext nor TLS.
func (a answer) unexplained() (finding, bool) {
	switch a.kind {
	case answerNothing:
		return finding{NoAnswer, "it accepts connections but sends nothing"}, true
	case answerHungUp:
		return finding{ConnectionLost, "it accepts connections and closes them"}, true
	case answerOther:
		return finding{NotHTTP2, a.text}, true
	default:
		return finding{}, false
	}
}

// preface is how a client starts an HTTP/2 connection: the magic and an empty SETTINGS frame (RFC
// 9113 §3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// greet connects, with TLS if config is given, sends the preface and reads the answer.
func (e *Explainer) greet(ctx context.Context, config *tls.Config) answer {
	conn, err := dial.To(e.config.Socket)(ctx, "tcp", hostPort(e.config.Base))
	if err != nil {
		return answer{kind: noConnection, err: err}
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(greetTimeout))

	handshaken, certificateRequested := false, false
	if config != nil {
		config = config.Clone()
		if config.ServerName == "" {
			config.ServerName = e.config.Base.Hostname()
		}
		if config.GetClientCertificate == nil && len(config.Certificates) == 0 {
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				certificateRequested = true
				return &tls.Certificate{}, nil
			}
		}
		secured := tls.Client(conn, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			return answerOfHandshake(err)
		}
		if secured.ConnectionState().NegotiatedProtocol != "h2" {
			return answer{kind: answerHTTP1, text: "it did not agree to HTTP/2 by ALPN", tls: true}
		}
		conn, handshaken = secured, true
	}
	// If the write fails, so does the read that follows.
	_, _ = io.WriteString(conn, preface)
	first := make([]byte, 64)
	n, err := io.ReadAtLeast(conn, first, frameHeaderBytes)
	received := classify(first[:n], err)
	received.tls, received.certificateRequested = handshaken, certificateRequested
	return received
}

// hostPort is host:port of u, with the scheme's port if none is given.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// answerOfHandshake is what the error of a TLS handshake says about the peer.
func answerOfHandshake(err error) answer {
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return answer{kind: answerNothing, err: err}
	case errors.As(err, &record):
		return classify(record.RecordHeader[:], err)
	case isHangUp(err):
		return answer{kind: answerHungUp, err: err}
	default:
		return answer{kind: answerTLS, err: err}
	}
}

// frameHeaderBytes is the length of an HTTP/2 frame's header (RFC 9113 §4.1).
const frameHeaderBytes = 9

// classify tells which protocol the first bytes belong to. They may be fewer than a frame's header
// if err ended them.
func classify(first []byte, err error) answer {
	const tlsAlert = "\x15\x03"
	var alert *net.OpError
	switch {
	case errors.As(err, &alert) && alert.Op == opTLSAlert:
		return answer{kind: answerTLS, err: err}
	case bytes.HasPrefix(first, []byte(tlsAlert)):
		return answer{kind: answerTLS, err: err}
	case bytes.HasPrefix(first, []byte("HTTP/")):
		return answer{kind: answerHTTP1, text: "it answered " + firstLine(first)}
	case len(first) >= 4 && first[0] == 0 && first[3] == 0x4:
		// A server's first frame is SETTINGS, type 4 (RFC 9113 §3.4), which is always shorter than
		// 2^16, so the first byte of its length is 0.
		return answer{kind: answerHTTP2}
	case len(first) > 0:
		return answer{kind: answerOther, text: "it answered " + firstLine(first)}
	case isHangUp(err):
		return answer{kind: answerHungUp, err: err}
	default:
		return answer{kind: answerNothing, err: err}
	}
}

// isHangUp reports whether err says that the peer closed the connection, with or without a reset.
func isHangUp(err error) bool {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	var broken *net.OpError
	return errors.As(err, &broken) && !broken.Timeout() && broken.Op != opTLSAlert
}

// firstLine is the first line of what was received, quoted: it may be binary.
func firstLine(received []byte) string {
	line, _, _ := strings.Cut(string(received), "\n")
	return fmt.Sprintf("%q", strings.TrimRight(line, "\r"))
}
