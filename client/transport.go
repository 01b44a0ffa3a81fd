package client

import (
	"context"
	"crypto/tls"
	"errors"
	"math"
	"net/http"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/client/internal/diagnose"
	"example.com/roster/client/internal/dial"
)

const (
	// handshakeTimeout bounds one TLS handshake, which net/http continues after the call that
	// needed the connection has given up.
	handshakeTimeout = 5 * time.Second
	// idleTimeout closes a connection that has no calls: firewalls and load balancers drop an idle
	// connection without telling either end.
	idleTimeout = 90 * time.Second
)

// newTransport makes the one connection pool of a client. It uses HTTP/2 only: by prior knowledge
// without TLS, agreed by ALPN with TLS. It sends no health pings, because a Python gRPC server
// closes a connection that pings it more often than every five minutes.
func newTransport(to target, tlsConfig *tls.Config) *http.Transport {
	var protocols http.Protocols
	t := &http.Transport{
		Protocols:           &protocols,
		DialContext:         dial.To(to.socket),
		TLSHandshakeTimeout: handshakeTimeout,
		IdleConnTimeout:     idleTimeout,
		// Without this bound, each of many concurrent first calls opens a connection. If the server
		// allows fewer streams on a connection than there are calls, another is still opened.
		MaxConnsPerHost: 1,
		// Connect negotiates the compression of messages itself.
		DisableCompression: true,
	}
	if to.base.Scheme == "https" {
		protocols.SetHTTP2(true)
		t.TLSClientConfig = clientTLS(tlsConfig)
		if to.socket == "" {
			t.Proxy = http.ProxyFromEnvironment
		}
		return t
	}
	// No proxy from the environment: HTTP proxies do not forward HTTP/2 with prior knowledge.
	protocols.SetUnencryptedHTTP2(true)
	return t
}

// clientTLS is the caller's configuration, or the system's roots if there is none, with HTTP/2
// required. If ALPN does not choose HTTP/2, net/http would continue with HTTP/1.1, and the call
// would fail later with an error that misleads.
func clientTLS(config *tls.Config) *tls.Config {
	if config == nil {
		config = &tls.Config{}
	}
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	verify := config.VerifyConnection
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if state.NegotiatedProtocol != "h2" {
			return diagnose.ErrNoHTTP2
		}
		if verify != nil {
			return verify(state)
		}
		return nil
	}
	return config
}

// caller sends a call's HTTP request for connect. It is not an http.Client, so it does not follow
// redirects: a gRPC server sends none.
type caller struct {
	transport     *http.Transport
	authorization []string // empty for none
	// streams says that a reply may have any number of messages; each has its own bound.
	streams bool
}

func (c caller) Do(req *http.Request) (*http.Response, error) {
	if len(c.authorization) > 0 && len(req.Header["Authorization"]) == 0 {
		req.Header["Authorization"] = c.authorization
	}
	seen := diagnose.ObservationOf(req.Context())
	response, err := c.transport.RoundTrip(req)
	if err != nil {
		seen.Failed(err)
		return nil, resetIsUnavailable(req.Context(), err)
	}
	seen.Responded(response)
	most := int64(maxReplyBodyBytes)
	if c.streams {
		most = math.MaxInt64
	}
	response.Body = &replyBody{ReadCloser: response.Body, ctx: req.Context(), left: most}
	return response, nil
}

// resetIsUnavailable gives the error of a connection that the peer reset the code UNAVAILABLE, as
// gRPC does, and as connect does if the peer closed the connection. For a reset, connect has
// CANCELED, which means that the caller ended the call.
func resetIsUnavailable(ctx context.Context, err error) error {
	reset := errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	if !reset || ctx.Err() != nil {
		return err
	}
	return connect.NewError(connect.CodeUnavailable, err)
}
