package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"example.com/roster/gen/go/apipb/apipbconnect"
)

// probeTimeout bounds a probe, which has up to two greetings in it.
const probeTimeout = 2 * time.Second

// finding is what a probe found out.
type finding struct {
	reason Reason
	detail string
}

// weak reports whether the probe heard nothing, which may be a busy server or
// a busy machine as well: it adds to the same diagnosis, but refutes no other.
func (f finding) weak() bool {
	return f.reason == ReasonNoAnswer || f.reason == ReasonConnectionLost || f.reason == ReasonUnreachable
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
	// Some TLS servers hang up or wait when greeted without TLS.
	if c.speaksTLS(ctx) {
		return finding{ReasonServerUsesTLS, ""}, true
	}
	return heard.strange()
}

// speaksTLS reports whether the port answers TLS. What the certificate says
// does not matter: nothing is sent to it.
func (c *Client) speaksTLS(ctx context.Context) bool {
	return ctx.Err() == nil && c.greet(ctx, probeTLS(&tls.Config{InsecureSkipVerify: true})).spokeTLS()
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
	case voiceHungUp:
		if heard.asked {
			// In TLS 1.3 the handshake is over on this side before the server
			// misses the certificate, and its alert may be lost to a reset.
			return finding{ReasonTLSRefused, "it asks for a client certificate"}, true
		}
	case voiceTLS:
		var alert *net.OpError
		if errors.As(heard.err, &alert) && alert.Op == opTLSAlert {
			return finding{ReasonTLSRefused, alert.Err.Error()}, true
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
