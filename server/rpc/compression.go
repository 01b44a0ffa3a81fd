package rpc

import "net/http"

// Compressions lists the supported compressions of messages, in the form of Grpc-Accept-Encoding.
const Compressions = "gzip,deflate"

// IsCompression reports whether name, the value of a header field such as Grpc-Encoding, is a
// supported compression. An empty name means that the message is not compressed.
func IsCompression(name string) bool {
	return name == "" || name == "identity" || name == "gzip" || name == "deflate"
}

// Compressed reports whether a request declares its message compressed: see Compression.
func Compressed(r *http.Request) bool {
	encoding := Compression(r)
	return encoding != "" && encoding != "identity"
}

// Compression is the compression that a request declares for its message, in the header field of its
// protocol or, for a GET of Connect, in the query; empty if it declares none. Connect reads the same
// place: a field of another protocol means nothing.
func Compression(r *http.Request) string {
	if r.Method == http.MethodGet {
		return r.URL.Query().Get("compression")
	}
	media, _ := RequestMediaType(r)
	switch {
	case media.Protocol == GRPC || media.Protocol == GRPCWeb:
		return Header(r, "Grpc-Encoding")
	case media.Enveloped:
		return Header(r, "Connect-Content-Encoding")
	}
	return Header(r, "Content-Encoding")
}
