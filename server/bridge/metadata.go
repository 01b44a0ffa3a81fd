package bridge

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"connectrpc.com/connect"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// Metadata passes the bridge in both directions, apart from what belongs to one of the two connections
// or to the port itself:
//
//   - fields of HTTP itself: those of RFC 9110 §7.6.1 (connection, te, trailer, transfer-encoding,
//     upgrade, keep-alive, proxy-*), and those that describe the message or the exchange (content-*,
//     accept*, host, origin, referer, sec-*, user-agent, date, server, if-*, cache-control, …);
//   - fields of the protocols: grpc-*, connect-*, x-grpc-web, x-user-agent;
//   - fields that gRPC cannot carry: with a name of other characters than letters, digits and -_. or a value
//     that is not printable ASCII;
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

// reservedFields are the reserved names that nearly every request has, in the form of http.Header, which
// spares a search for each of them.
var reservedFields = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Connect-Protocol-Version": true, "Connect-Timeout-Ms": true, "Content-Length": true,
	"Content-Type": true, "Grpc-Accept-Encoding": true, "Grpc-Timeout": true, "Te": true, "User-Agent": true,
}

// ReservedMetadata reports whether metadata of this name, in lower case, belongs to the connection or to the protocol,
// and is never passed on.
func ReservedMetadata(name string) bool { return reserved(name) }

func reserved(name string) bool {
	return slices.Contains(reservedNames, name) ||
		slices.ContainsFunc(reservedPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// outgoing returns the metadata of a call to an upstream: that of the request, without what leaveOut
// names in lower case. It is nil if there is none.
func outgoing(header http.Header, leaveOut []string) (md metadata.MD) {
	for name, values := range header {
		if reservedFields[name] {
			continue
		}
		name = strings.ToLower(name)
		if reserved(name) || slices.Contains(leaveOut, name) || !isMetadataKey(name) {
			continue
		}
		if md == nil {
			md = make(metadata.MD, len(header))
		}
		if !strings.HasSuffix(name, "-bin") {
			if !slices.ContainsFunc(values, hasOtherThanPrintable) {
				md[name] = values
			}
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

// isMetadataKey reports whether gRPC has a name for the field: HTTP has more characters (RFC 9110 §5.6.2).
// grpc-go would refuse the whole call.
func isMetadataKey(name string) bool {
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// hasOtherThanPrintable reports whether gRPC cannot carry a value, as above: it has printable ASCII alone.
func hasOtherThanPrintable(value string) bool {
	return strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' })
}

// inASCII is a name with all that is not printable ASCII in the percent-encoding of gRPC's grpc-message.
func inASCII(name string) string {
	var text strings.Builder
	for i := range len(name) {
		if c := name[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&text, "%%%02X", c)
		} else {
			text.WriteByte(c)
		}
	}
	return text.String()
}

// maxCallerMetadata is how many bytes of metadata a caller on gRPC's C core accepts with one reply: its
// default soft limit (GRPC_ARG_MAX_METADATA_SIZE). Above that it ends the call at random, with an error
// that does not say why.
const maxCallerMetadata = 8 << 10

// ownMetadata is about what the port itself adds to a reply, in bytes as metadataSize counts them.
const ownMetadata = 512

// metadataSize is the size of the metadata as HTTP/2 counts it (RFC 9113 §6.5.2), with the values of
// -bin keys in base64.
func metadataSize(md metadata.MD) (size int) {
	for name, values := range md {
		if reserved(name) || strings.HasPrefix(name, ":") {
			continue
		}
		for _, value := range values {
			size += len(name) + 32
			if strings.HasSuffix(name, "-bin") {
				size += (4*len(value) + 2) / 3
			} else {
				size += len(value)
			}
		}
	}
	return size
}

// takesLittleMetadata reports whether the caller is one that maxCallerMetadata is about, such as a
// Python program, by the header of its request.
func takesLittleMetadata(request http.Header) bool {
	return strings.Contains(request.Get("User-Agent"), "grpc-c/")
}

// tooMuchMetadata returns the error of a reply with more metadata than its caller accepts, nil if there
// is not too much.
func (c *call) tooMuchMetadata(sets ...metadata.MD) error {
	if !c.littleMetadata {
		return nil
	}
	for _, md := range sets {
		if size := metadataSize(md); size > maxCallerMetadata-ownMetadata {
			return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
				"the server's reply has %d bytes of metadata, and the caller's gRPC library accepts %d: have the server send less", size, maxCallerMetadata-ownMetadata))
		}
	}
	return nil
}

// fit leaves out of an error what its caller would not accept: metadata first, then details, then the
// end of the text. The text says so.
func (c *call) fit(st *spb.Status, header, trailer metadata.MD) (*spb.Status, metadata.MD, metadata.MD) {
	const most = maxCallerMetadata - ownMetadata
	size := func() int {
		return metadataSize(header) + metadataSize(trailer) + 4*proto.Size(st)/3 + 3*len(st.GetMessage())
	}
	if !c.littleMetadata || size() <= most {
		return st, header, trailer
	}
	was := metadataSize(header) + metadataSize(trailer) + proto.Size(st)
	st = proto.Clone(st).(*spb.Status)
	left := "metadata"
	header, trailer = nil, nil
	if size() > most {
		left = "metadata and details"
		st.Details = nil
	}
	const longest = 1 << 10 // each byte may be three when it is escaped, and the details have the text again
	if len(st.GetMessage()) > longest {
		st.Message = strings.ToValidUTF8(st.GetMessage()[:longest], "") + "…"
	}
	st.Message += fmt.Sprintf(" (the %s of this error are left out: it has %d bytes, and the caller's gRPC library accepts %d)", left, was, most)
	return st, header, trailer
}

// incoming adds the metadata of an upstream's reply to that of ours, where the keys begin with prefix.
func incoming(header http.Header, prefix string, md metadata.MD) {
	for name, values := range md {
		if reserved(name) || strings.HasPrefix(name, ":") {
			continue
		}
		key := prefix + http.CanonicalHeaderKey(name)
		for _, value := range values {
			if strings.HasSuffix(name, "-bin") {
				value = connect.EncodeBinaryHeader([]byte(value))
			}
			header[key] = append(header[key], value)
		}
	}
}
