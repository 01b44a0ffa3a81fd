package rpc

import (
	"net/http"
	"strings"
)

// Protocol is the protocol of an RPC.
type Protocol uint8

// The protocols. NotRPC is that of a request that is no RPC, or has not been recognized as one.
const (
	NotRPC Protocol = iota
	GRPC
	GRPCWeb
	Connect
)

// Protocols is the number of protocols, including NotRPC.
const Protocols = 4

// String returns the protocol's name in logs and metrics.
func (p Protocol) String() string {
	switch p {
	case GRPC:
		return "grpc"
	case GRPCWeb:
		return "grpc-web"
	case Connect:
		return "connect"
	}
	return ""
}

// Codec is how the messages of an RPC are encoded.
type Codec uint8

// The codecs.
const (
	Proto Codec = iota
	JSON
)

// Codecs is the number of codecs.
const Codecs = 2

// String returns the codec's name in logs, metrics and content types.
func (c Codec) String() string {
	if c == JSON {
		return "json"
	}
	return "proto"
}

// MediaType is what the content type of a request says about its RPC.
type MediaType struct {
	Protocol Protocol
	Codec    Codec
	// Enveloped is true if every message follows a prefix of five bytes, its flags and its length.
	Enveloped bool
	// InStatus is true if an error is an HTTP status. All other protocols answer 200 to every call and
	// send the error in a trailer or in the body.
	InStatus bool
	// Text is true for the text mode of gRPC-Web, whose body is base64: see [TextMode].
	Text bool
	// UnknownCodec is true for gRPC or gRPC-Web whose messages are neither protobuf nor JSON. The port
	// refuses such a call, in the protocol of the caller.
	UnknownCodec bool
}

// AcceptPost and AcceptPostStream list the content types of unary calls and of streams. A request with
// another one is told them.
const AcceptPost = "application/json, application/proto, " + acceptGRPC

// AcceptPostStream: see AcceptPost.
const AcceptPostStream = "application/connect+json, application/connect+proto, " + acceptGRPC

const acceptGRPC = "application/grpc, application/grpc+json, application/grpc-web, application/grpc-web+json, " +
	"application/grpc-web-text"

// ParseMediaType parses a Content-Type. It reports false for one that no RPC has. Every part of the
// port calls this function, so that all agree on the protocol of a request.
//
// Parameters are ignored, since none is defined for these types: JSON is UTF-8 whatever its charset
// says (RFC 8259 §11). Whatever begins like gRPC is gRPC, so that its caller gets an answer that it
// reads.
func ParseMediaType(contentType string) (MediaType, bool) {
	media, _, ok := parseMediaType(contentType)
	return media, ok
}

// parseMediaType also returns the form of the content type that Connect knows.
func parseMediaType(contentType string) (media MediaType, canonical string, ok bool) {
	if media, ok = mediaTypeOf(contentType); ok {
		return media, contentType, true
	}
	base, _, _ := strings.Cut(contentType, ";")
	base = strings.ToLower(strings.TrimSpace(base))
	if media, ok = mediaTypeOf(base); ok {
		return media, base, true
	}
	prefix, suffix, _ := strings.Cut(base, "+")
	if media, ok = mediaTypeOf(prefix); !ok || media.Protocol == Connect || !isToken(suffix) {
		return MediaType{}, "", false
	}
	media.UnknownCodec = true
	return media, base, true
}

// mediaTypeOf knows the types without parameters, in lower case.
func mediaTypeOf(contentType string) (MediaType, bool) {
	switch contentType {
	case "application/grpc", "application/grpc+proto":
		return MediaType{Protocol: GRPC, Enveloped: true}, true
	case "application/grpc+json":
		return MediaType{Protocol: GRPC, Codec: JSON, Enveloped: true}, true
	case "application/grpc-web", "application/grpc-web+proto":
		return MediaType{Protocol: GRPCWeb, Enveloped: true}, true
	case "application/grpc-web+json":
		return MediaType{Protocol: GRPCWeb, Codec: JSON, Enveloped: true}, true
	case "application/grpc-web-text", "application/grpc-web-text+proto":
		return MediaType{Protocol: GRPCWeb, Enveloped: true, Text: true}, true
	case "application/grpc-web-text+json":
		return MediaType{Protocol: GRPCWeb, Codec: JSON, Enveloped: true, Text: true}, true
	case "application/connect+proto":
		return MediaType{Protocol: Connect, Enveloped: true}, true
	case "application/connect+json":
		return MediaType{Protocol: Connect, Codec: JSON, Enveloped: true}, true
	case "application/proto":
		return MediaType{Protocol: Connect, InStatus: true}, true
	case "application/json":
		return MediaType{Protocol: Connect, Codec: JSON, InStatus: true}, true
	}
	return MediaType{}, false
}

// isToken reports whether a text is a token of HTTP (RFC 9110 §5.6.2), as a subtype is.
func isToken(text string) bool {
	return text != "" && strings.Trim(text, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") == ""
}

// Canonicalize replaces the content type of a request by the form that Connect knows, which takes
// parameters for a part of the name.
func Canonicalize(r *http.Request) {
	if values := r.Header["Content-Type"]; len(values) > 0 {
		if _, canonical, ok := parseMediaType(values[0]); ok && (canonical != values[0] || len(values) > 1) {
			r.Header["Content-Type"] = []string{canonical}
		}
	}
}

// RequestMediaType is the media type of a request: from its content type or, for a GET of Connect,
// from its query. It reports false for a request that is no RPC.
func RequestMediaType(r *http.Request) (MediaType, bool) {
	if r.Method != http.MethodGet {
		return ParseMediaType(Header(r, "Content-Type"))
	}
	switch r.URL.Query().Get("encoding") {
	case "proto":
		return MediaType{Protocol: Connect, InStatus: true}, true
	case "json", "json; charset=utf-8":
		return MediaType{Protocol: Connect, Codec: JSON, InStatus: true}, true
	}
	return MediaType{}, false
}

// Fits reports whether a method can be called so: Connect has one content type for unary methods and
// another for streams.
func (t MediaType) Fits(method *Method) bool {
	return t.Protocol != Connect || t.Enveloped == method.Streams()
}

// Header returns the first value of a header field. The name must be in canonical form: unlike
// [http.Header.Get] this function does not bring it there.
func Header(r *http.Request, name string) string {
	if values := r.Header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}
