package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"connectrpc.com/connect"

	"example.com/roster/client/internal/diagnose"
	"example.com/roster/internal/loopback"
)

// Config says how a Client makes its calls. The zero value is gRPC, binary and uncompressed, which
// every server of the contract understands.
type Config struct {
	// Protocol is the wire protocol. A Python gRPC server supports only GRPC.
	Protocol Protocol
	// JSON sends messages as JSON instead of binary protobuf. A Python gRPC server does not support
	// it.
	JSON bool
	// Gzip compresses requests. Whether replies are compressed is for the server to decide.
	Gzip bool
	// Interceptors run around every attempt, the first outermost, and around the calls of Endpoint.
	// An interceptor of otelconnect makes a span and passes the trace of the caller's context on to
	// the server (W3C Trace Context):
	//
	//	otelconnect.NewInterceptor(otelconnect.WithPropagator(propagation.TraceContext{}))
	Interceptors []connect.Interceptor
	// TLS is for https addresses: the roots to trust, a client certificate. nil means the system's
	// roots and no client certificate. New copies it.
	TLS *tls.Config
	// Token is sent with every call, in the header "authorization: Bearer TOKEN"; empty sends none.
	// Anybody who reads it on the network can use it, so New refuses to send it over http to
	// another machine.
	Token string
	// TokenInClear permits a Token over http to another machine, for networks that are encrypted by
	// other means.
	TokenInClear bool
}

// Protocol is the wire protocol of a Client. Roster's port supports all three; a Python grpcio
// server supports only GRPC.
type Protocol int

const (
	// GRPC is gRPC over HTTP/2, the zero value: every server of the contract supports it.
	GRPC Protocol = iota
	// GRPCWeb is gRPC-Web, which carries the trailers in the body.
	GRPCWeb
	// Connect is the Connect protocol, whose unary calls are ordinary POST requests.
	Connect
)

// ParseProtocol reads what String writes: grpc, grpcweb or connect.
func ParseProtocol(name string) (Protocol, error) {
	for _, p := range []Protocol{GRPC, GRPCWeb, Connect} {
		if name == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("unknown protocol %q: use grpc, grpcweb or connect", name)
}

func (p Protocol) String() string {
	switch p {
	case GRPC:
		return diagnose.GRPC
	case GRPCWeb:
		return diagnose.GRPCWeb
	case Connect:
		return diagnose.Connect
	default:
		return fmt.Sprintf("Protocol(%d)", int(p))
	}
}

// bearer is the value of the Authorization header (RFC 6750 §2.1), empty if there is no token. Its
// errors do not contain the token.
func bearer(base *url.URL, cfg Config) ([]string, error) {
	switch {
	case cfg.Token == "":
		return nil, nil
	case strings.Trim(cfg.Token, tokenCharacters) != "":
		return nil, errors.New("the token has a character that no token has: a space, a line's end or a quotation mark, perhaps")
	case base.Scheme == "http" && !loopback.Host(base.Hostname()) && !cfg.TokenInClear:
		return nil, errors.New("the token would cross the network in the clear: use https://, " +
			"or say that the network is encrypted by itself (Config.TokenInClear, --token-in-clear)")
	}
	return []string{"Bearer " + cfg.Token}, nil
}

// tokenCharacters are those of a b64token (RFC 6750 §2.1).
const tokenCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/="
