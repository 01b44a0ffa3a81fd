package rpc

import (
	"mime"
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
}

// AcceptPost and AcceptPostStream list the content types of unary calls and of streams. A request with
// another one is told them.
const AcceptPost = "application/json, application/proto, application/grpc, application/grpc+json, " +
	"application/grpc-web, application/grpc-web+json"

// AcceptPostStream: see AcceptPost.
const AcceptPostStream = "application/connect+json, application/connect+proto, application/grpc, application/grpc+json, " +
	"application/grpc-web, application/grpc-web+json"

// ParseMediaType parses a Content-Type. It reports false for one that no RPC has. Every part of the
// port calls this function, so that all agree on the protocol of a request.
func ParseMediaType(contentType string) (MediaType, bool) {
	if media, ok := parseMediaType(contentType); ok {
		return media, true
	}
	// Connect compares the same form. It knows JSON with a charset as a codec of its own; every other
	// parameter makes a type that it does not know.
	base, parameters, err := mime.ParseMediaType(contentType)
	if err != nil {
		return MediaType{}, false
	}
	if charset, ok := parameters["charset"]; ok {
		parameters["charset"] = strings.ToLower(charset)
	}
	return parseMediaType(mime.FormatMediaType(base, parameters))
}

// parseMediaType parses a Content-Type in canonical form.
func parseMediaType(contentType string) (MediaType, bool) {
	switch contentType {
	case "application/grpc", "application/grpc+proto":
		return MediaType{Protocol: GRPC, Enveloped: true}, true
	case "application/grpc+json", "application/grpc+json; charset=utf-8":
		return MediaType{Protocol: GRPC, Codec: JSON, Enveloped: true}, true
	case "application/grpc-web", "application/grpc-web+proto":
		return MediaType{Protocol: GRPCWeb, Enveloped: true}, true
	case "application/grpc-web+json", "application/grpc-web+json; charset=utf-8":
		return MediaType{Protocol: GRPCWeb, Codec: JSON, Enveloped: true}, true
	case "application/connect+proto":
		return MediaType{Protocol: Connect, Enveloped: true}, true
	case "application/connect+json", "application/connect+json; charset=utf-8":
		return MediaType{Protocol: Connect, Codec: JSON, Enveloped: true}, true
	case "application/proto":
		return MediaType{Protocol: Connect, InStatus: true}, true
	case "application/json", "application/json; charset=utf-8":
		return MediaType{Protocol: Connect, Codec: JSON, InStatus: true}, true
	}
	return MediaType{}, false
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
