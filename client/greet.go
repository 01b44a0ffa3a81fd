package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// greetTimeout is how long a probe that is connected waits for an answer: a
// server sends its SETTINGS before it does any work.
const greetTimeout = 500 * time.Millisecond

// voice is what the first bytes from a port sound like.
type voice int

const (
	voiceNoConnection voice = iota // err says why
	voiceNone                      // silence
	voiceHungUp                    // closed without a byte
	voiceTLS                       // an alert, or a handshake that failed with err
	voiceHTTP1
	voiceHTTP2
	voiceOther // words says what
)

type greeting struct {
	voice voice
	words string // the first line heard, where it helps
	err   error
	tls   bool // the handshake was completed
	asked bool // for a client certificate that is not configured
}

// spokeTLS reports whether the peer spoke TLS, whatever came of it.
func (g greeting) spokeTLS() bool { return g.tls || g.voice == voiceTLS }

func (g greeting) noConnection() (finding, bool) {
	reason, certain := transportReason(g.err)
	return finding{reason, ""}, certain
}

// strange is the finding for what neither plain nor TLS made sense of.
func (g greeting) strange() (finding, bool) {
	switch g.voice {
	case voiceNone:
		return finding{ReasonNoAnswer, "it accepts connections and says nothing"}, true
	case voiceHungUp:
		return finding{ReasonConnectionLost, "it accepts connections and closes them"}, true
	case voiceOther:
		return finding{ReasonNotHTTP2, g.words}, true
	default:
		return finding{}, false
	}
}

// preface is the client's half of an HTTP/2 connection's start: the magic and
// an empty SETTINGS frame (RFC 9113 §3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// greet connects, with TLS when config is given, sends the preface and listens.
func (c *Client) greet(ctx context.Context, config *tls.Config) greeting {
	conn, err := newDialer().DialContext(ctx, "tcp", dialAddress(c.base))
	if err != nil {
		return greeting{voice: voiceNoConnection, err: err}
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(greetTimeout))

	handshaken, asked := false, false
	if config != nil {
		config = config.Clone()
		if config.ServerName == "" {
			config.ServerName = c.base.Hostname()
		}
		if config.GetClientCertificate == nil && len(config.Certificates) == 0 {
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				asked = true
				return &tls.Certificate{}, nil
			}
		}
		secured := tls.Client(conn, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			return greetingFromTLS(err)
		}
		if secured.ConnectionState().NegotiatedProtocol != "h2" {
			return greeting{voice: voiceHTTP1, words: "it did not agree to HTTP/2 by ALPN", tls: true}
		}
		conn, handshaken = secured, true
	}
	// A failed write is told by the read after it.
	_, _ = io.WriteString(conn, preface)
	first := make([]byte, 64)
	n, err := io.ReadAtLeast(conn, first, frameHeaderBytes)
	heard := listen(first[:n], err)
	heard.tls, heard.asked = handshaken, asked
	return heard
}

// greetingFromTLS tells what a failed handshake says of the peer.
func greetingFromTLS(err error) greeting {
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return greeting{voice: voiceNone, err: err}
	case errors.As(err, &record):
		return listen(record.RecordHeader[:], err)
	case isHangUp(err):
		return greeting{voice: voiceHungUp, err: err}
	default:
		return greeting{voice: voiceTLS, err: err}
	}
}

// frameHeaderBytes is the length of an HTTP/2 frame's header (RFC 9113 §4.1).
const frameHeaderBytes = 9

// listen makes out who speaks. first may be shorter than a frame's header when
// err ended it.
func listen(first []byte, err error) greeting {
	const tlsAlert = "\x15\x03"
	var alert *net.OpError
	switch {
	case errors.As(err, &alert) && alert.Op == opTLSAlert:
		return greeting{voice: voiceTLS, err: err}
	case bytes.HasPrefix(first, []byte(tlsAlert)):
		return greeting{voice: voiceTLS, err: err}
	case bytes.HasPrefix(first, []byte("HTTP/")):
		return greeting{voice: voiceHTTP1, words: "it answered " + firstLine(first)}
	case len(first) >= 4 && first[0] == 0 && first[3] == 0x4:
		// A server's first frame is SETTINGS, type 4 (RFC 9113 §3.4); its
		// length never needs the first of the three bytes.
		return greeting{voice: voiceHTTP2}
	case len(first) > 0:
		return greeting{voice: voiceOther, words: "it answered " + firstLine(first)}
	case isHangUp(err):
		return greeting{voice: voiceHungUp, err: err}
	default:
		return greeting{voice: voiceNone, err: err}
	}
}

// isHangUp reports whether err is the peer closing the connection, gracefully
// or with a reset.
func isHangUp(err error) bool {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	var broken *net.OpError
	return errors.As(err, &broken) && !broken.Timeout() && broken.Op != opTLSAlert
}

// firstLine is heard's first line, quoted: it may be binary.
func firstLine(heard []byte) string {
	line, _, _ := strings.Cut(string(heard), "\n")
	return fmt.Sprintf("%q", strings.TrimRight(line, "\r"))
}
