package rpc

import (
	"mime"
	"net/http"
	"strings"
)

// Protocol is what an RPC speaks.
type Protocol uint8

// The protocols. A request that is no RPC, or is not yet known to be one, speaks NotRPC.
const (
	NotRPC Protocol = iota
	GRPC
	GRPCWeb
	Connect
)

// Protocols is how many there are, NotRPC among them.
const Protocols = 4

// String returns the protocol's name as logs and metrics have it.
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

// Codecs is how many there are.
const Codecs = 2

// String returns the codec's name as logs, metrics and content types have it.
func (c Codec) String() string {
	if c == JSON {
		return "json"
	}
	return "proto"
}

// MediaType is what the content type of a request says about the RPC that it makes.
type MediaType struct {
	Protocol Protocol
	Codec    Codec
	// Enveloped: every message has five bytes before it, its flags and its length.
	Enveloped bool
	// InStatus: an error is told by the HTTP status of the reply. All other protocols answer 200 and
	// tell it elsewhere.
	InStatus bool
}

// AcceptPost names the content types of a unary call, for callers who sent another one.
const AcceptPost = "application/json, application/proto, application/grpc, application/grpc+json, " +
	"application/grpc-web, application/grpc-web+json"

// ParseMediaType reads a Content-Type. It reports false for one that no RPC has. Every part of the
// port that asks what a request speaks asks here, so that no two answers differ.
func ParseMediaType(contentType string) (MediaType, bool) {
	switch contentType {
	case "application/grpc", "application/grpc+proto":
		return MediaType{Protocol: GRPC, Enveloped: true}, true
	case "application/grpc+json":
		return MediaType{Protocol: GRPC, Codec: JSON, Enveloped: true}, true
	case "application/grpc-web", "application/grpc-web+proto":
		return MediaType{Protocol: GRPCWeb, Enveloped: true}, true
	case "application/grpc-web+json":
		return MediaType{Protocol: GRPCWeb, Codec: JSON, Enveloped: true}, true
	case "application/connect+proto":
		return MediaType{Protocol: Connect, Enveloped: true}, true
	case "application/connect+json":
		return MediaType{Protocol: Connect, Codec: JSON, Enveloped: true}, true
	case "application/proto":
		return MediaType{Protocol: Connect, InStatus: true}, true
	case "application/json", "application/json; charset=utf-8":
		return MediaType{Protocol: Connect, Codec: JSON, InStatus: true}, true
	}
	base, parameters, err := mime.ParseMediaType(contentType)
	if err != nil || base == contentType {
		return MediaType{}, false
	}
	if charset := parameters["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return MediaType{}, false
	}
	return ParseMediaType(base)
}

// RequestMediaType is what a request says that it speaks: by its content type, or, in Connect's GET,
// by its query. It reports false for a request that is no RPC.
func RequestMediaType(r *http.Request) (MediaType, bool) {
	if r.Method != http.MethodGet {
		return ParseMediaType(Header(r, "Content-Type"))
	}
	switch r.URL.Query().Get("encoding") {
	case "proto":
		return MediaType{Protocol: Connect, InStatus: true}, true
	case "json":
		return MediaType{Protocol: Connect, Codec: JSON, InStatus: true}, true
	}
	return MediaType{}, false
}

// Header is the first value of a header field whose name is in canonical form. Unlike
// [http.Header.Get] it spends nothing on the form of the name.
func Header(r *http.Request, name string) string {
	if values := r.Header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}
