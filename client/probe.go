package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"example.com/roster/gen/go/apipb/apipbconnect"
)

const (
	// probeTimeout bounds a probe, which has up to two greetings in it.
	probeTimeout = 2 * time.Second
	// greetTimeout is how long a probe that is connected waits for an answer:
	// a server sends its SETTINGS before it does any work.
	greetTimeout = 500 * time.Millisecond
)

// finding is what a probe found out.
type finding struct {
	reason Reason
	detail string
}

// probe greets the port as an HTTP/2 client does and looks at the first bytes
// that come back. ok is false when that explains nothing or could not be done.
// Calls that fail together share one probe, so that a server in trouble is not
// given more of it.
func (c *Client) probe(ctx context.Context) (found finding, ok bool) {
	if ctx.Err() != nil || c.proxied() {
		return finding{}, false
	}
	result := c.probes.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
		defer cancel()
		found, ok := c.examine(ctx)
		if !ok {
			return nil, errNoFinding
		}
		return found, nil
	})
	select {
	case r := <-result:
		found, ok = r.Val.(finding)
		return found, ok
	case <-ctx.Done():
		return finding{}, false
	}
}

var errNoFinding = errors.New("the probe explains nothing")

// proxied reports whether calls go through a proxy, where greeting the port
// directly would say nothing about them.
func (c *Client) proxied() bool {
	if c.transport.Proxy == nil {
		return false
	}
	proxy, err := c.transport.Proxy(&http.Request{URL: c.base})
	return proxy != nil || err != nil
}

// answersOnlyGRPC reports whether a server that reset the stream of another
// protocol answers Health in gRPC: grpcio resets what it does not understand.
func (c *Client) answersOnlyGRPC(ctx context.Context) bool {
	if c.protocol == GRPC || ctx.Err() != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	// An empty message in its envelope: not compressed, of length 0.
	request, err := http.NewRequestWithContext(ctx, http.MethodPost,
		c.base.String()+apipbconnect.MyServiceHealthProcedure, strings.NewReader("\x00\x00\x00\x00\x00"))
	if err != nil {
		return false
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("Te", "trailers")
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	spoken, known := protocolOf(response.Header.Get("Content-Type"))
	return response.StatusCode == http.StatusOK && known && spoken == GRPC
}

// examine greets the port the way the client would, and the other way when it
// gets no sensible answer.
func (c *Client) examine(ctx context.Context) (finding, bool) {
	if c.probeTLS != nil {
		return c.examineTLS(ctx)
	}
	heard := c.greet(ctx, nil)
	switch heard.voice {
	case voiceTLS:
		return finding{ReasonServerUsesTLS, ""}, true
	case voiceHTTP1:
		return finding{ReasonNotHTTP2, heard.words}, true
	case voiceHTTP2:
		return finding{}, false
	case voiceNoConnection:
		return heard.noConnection()
	}
	// Some TLS servers hang up or wait when greeted without TLS. What the
	// certificate says does not matter: nothing is sent to it.
	if c.greet(ctx, probeTLS(&tls.Config{InsecureSkipVerify: true})).spokeTLS() {
		return finding{ReasonServerUsesTLS, ""}, true
	}
	return heard.strange()
}

func (c *Client) examineTLS(ctx context.Context) (finding, bool) {
	heard := c.greet(ctx, c.probeTLS)
	if !heard.tls && (heard.voice == voiceHTTP1 || heard.voice == voiceHTTP2) {
		return finding{ReasonServerUsesPlain, ""}, true
	}
	switch heard.voice {
	case voiceHTTP2:
		return finding{}, false
	case voiceHTTP1:
		return finding{ReasonNotHTTP2, heard.words}, true
	case voiceNoConnection:
		return heard.noConnection()
	case voiceTLS:
		var alert *net.OpError
		if errors.As(heard.err, &alert) && alert.Op == opTLSAlert {
			return finding{ReasonTLSRefused, ""}, true
		}
		// The handshake failed on this side of it.
		return finding{ReasonCertificate, heard.err.Error()}, true
	}
	switch plain := c.greet(ctx, nil); plain.voice {
	case voiceHTTP1, voiceHTTP2:
		return finding{ReasonServerUsesPlain, ""}, true
	}
	return heard.strange()
}

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

	handshaken := false
	if config != nil {
		config = config.Clone()
		if config.ServerName == "" {
			config.ServerName = c.base.Hostname()
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
	heard.tls = handshaken
	return heard
}

// probeTLS is the caller's configuration, offering HTTP/1.1 besides HTTP/2: a
// server without HTTP/2 then says so instead of breaking off.
func probeTLS(config *tls.Config) *tls.Config {
	if config == nil {
		config = &tls.Config{}
	}
	config = config.Clone()
	config.NextProtos = []string{"h2", "http/1.1"}
	return config
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
