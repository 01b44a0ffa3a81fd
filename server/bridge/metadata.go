package bridge

import (
	"net/http"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/grpc/metadata"
)

// Metadata passes the bridge in both directions, apart from what belongs to one of the two connections
// or to the port itself:
//
//   - fields of HTTP itself: those of RFC 9110 §7.6.1 (connection, te, trailer, transfer-encoding,
//     upgrade, keep-alive, proxy-*), and those that describe the message or the exchange (content-*,
//     accept*, host, origin, referer, sec-*, user-agent, date, server, if-*, cache-control, …);
//   - fields of the protocols: grpc-*, connect-*, x-grpc-web, x-user-agent;
//   - cookies, and the caller's credentials (authorization), which are meant for the port if it checks
//     tokens. A port without tokens passes authorization on.
//
// A key that ends in -bin has bytes, which travel as base64 (gRPC's "PROTOCOL-HTTP2"). They are decoded
// and encoded again, so that padding is what each side expects.

var (
	reservedPrefixes = []string{"accept", "access-control-", "connect-", "content-", "grpc-", "if-", "proxy-", "sec-"}
	reservedNames    = []string{"alt-svc", "cache-control", "connection", "cookie", "date", "expect", "forwarded", "host",
		"keep-alive", "origin", "pragma", "range", "referer", "server", "set-cookie", "te", "trailer", "transfer-encoding",
		"upgrade", "upgrade-insecure-requests", "user-agent", "vary", "via", "x-accel-buffering", "x-grpc-web", "x-user-agent"}
)

func reserved(name string) bool {
	return slices.Contains(reservedNames, name) ||
		slices.ContainsFunc(reservedPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// outgoing returns the metadata of a call to an upstream: that of the request, without what leaveOut
// names in lower case.
func outgoing(header http.Header, leaveOut []string) metadata.MD {
	md := make(metadata.MD, len(header))
	for name, values := range header {
		name = strings.ToLower(name)
		if reserved(name) || slices.Contains(leaveOut, name) {
			continue
		}
		if !strings.HasSuffix(name, "-bin") {
			md[name] = values
			continue
		}
		for _, value := range values {
			for value := range strings.SplitSeq(value, ",") { // a proxy may have joined them
				if bytes, err := connect.DecodeBinaryHeader(strings.TrimSpace(value)); err == nil {
					md[name] = append(md[name], string(bytes))
				}
			}
		}
	}
	return md
}

// incoming adds the metadata of an upstream's reply to that of ours.
func incoming(header http.Header, md metadata.MD) {
	for name, values := range md {
		if reserved(name) || strings.HasPrefix(name, ":") {
			continue
		}
		key := http.CanonicalHeaderKey(name)
		for _, value := range values {
			if strings.HasSuffix(name, "-bin") {
				value = connect.EncodeBinaryHeader([]byte(value))
			}
			header[key] = append(header[key], value)
		}
	}
}
