package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"connectrpc.com/connect"
)

const (
	// dialTimeout and handshakeTimeout bound one attempt to connect, which
	// net/http carries on after the call that wanted it has given up.
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 5 * time.Second
	// idleTimeout closes a connection that carries no calls: the network's
	// boxes forget an idle one without telling either end.
	idleTimeout = 90 * time.Second
)

// errNoHTTP2 is the end of a TLS handshake in which the server did not choose
// HTTP/2.
var errNoHTTP2 = errors.New("the server did not agree to HTTP/2 in the TLS handshake (ALPN)")

// newTransport builds the one connection pool of a client. It speaks HTTP/2
// alone: by prior knowledge on plain connections, agreed by ALPN over TLS. It
// sends no health pings, because a Python gRPC server closes a connection that
// pings it more often than every five minutes.
func newTransport(base *url.URL, tlsConfig *tls.Config) *http.Transport {
	var protocols http.Protocols
	t := &http.Transport{
		Protocols:           &protocols,
		DialContext:         newDialer().DialContext,
		TLSHandshakeTimeout: handshakeTimeout,
		IdleConnTimeout:     idleTimeout,
		// Without a bound every one of many first calls dials for itself.
		// Calls beyond the streams that the server allows on a connection
		// still open another.
		MaxConnsPerHost: 1,
		// Connect negotiates the compression of messages itself.
		DisableCompression: true,
	}
	if base.Scheme == "https" {
		protocols.SetHTTP2(true)
		t.TLSClientConfig = clientTLS(tlsConfig)
		t.Proxy = http.ProxyFromEnvironment
		return t
	}
	// No proxy from the environment here: HTTP proxies do not forward
	// HTTP/2 with prior knowledge.
	protocols.SetUnencryptedHTTP2(true)
	return t
}

// newDialer is the dialer of calls and probes. TCP's own keepalive finds a
// peer that vanished while nothing was being sent.
func newDialer() *net.Dialer {
	return &net.Dialer{Timeout: dialTimeout, Control: limitUnacknowledged}
}

// clientTLS is the caller's configuration, or the system's trust where there
// is none, with HTTP/2 required. net/http would go on in HTTP/1.1 when ALPN
// came to nothing, and the call would fail further on for reasons that mislead.
func clientTLS(config *tls.Config) *tls.Config {
	if config == nil {
		config = &tls.Config{}
	}
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	verify := config.VerifyConnection
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if state.NegotiatedProtocol != "h2" {
			return errNoHTTP2
		}
		if verify != nil {
			return verify(state)
		}
		return nil
	}
	return config
}

// caller runs a call's HTTP request for connect. It is not an http.Client, so
// redirects are answers and not followed: a gRPC server sends none.
type caller struct {
	transport     *http.Transport
	authorization []string // empty for none
}

func (c caller) Do(req *http.Request) (*http.Response, error) {
	if len(c.authorization) > 0 && len(req.Header["Authorization"]) == 0 {
		req.Header["Authorization"] = c.authorization
	}
	seen := sightingFrom(req.Context())
	response, err := c.transport.RoundTrip(req)
	if err != nil {
		seen.broke(err)
		return nil, resetIsUnavailable(req.Context(), err)
	}
	seen.answered(response)
	response.Body = &replyBody{ReadCloser: response.Body, ctx: req.Context(), seen: seen, left: maxReplyBodyBytes}
	return response, nil
}

// resetIsUnavailable gives a connection that the peer reset the code
// UNAVAILABLE, as gRPC does, and as connect does for one that was closed. For
// a reset alone connect has CANCELED, which is the caller's own doing.
func resetIsUnavailable(ctx context.Context, err error) error {
	reset := errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	if !reset || ctx.Err() != nil {
		return err
	}
	return connect.NewError(connect.CodeUnavailable, err)
}
