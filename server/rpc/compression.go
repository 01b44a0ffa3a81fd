package rpc

import "net/http"

// Compressions lists the supported compressions of messages, in the form of Grpc-Accept-Encoding.
const Compressions = "gzip"

// IsCompression reports whether name, the value of a header field such as Grpc-Encoding, is a
// supported compression. An empty name means that the message is not compressed.
func IsCompression(name string) bool { return name == "" || name == "identity" || name == "gzip" }

// Compressed reports whether a request declares its message compressed: in the header field of its
// protocol or, for a GET of Connect, in the query.
func Compressed(r *http.Request) bool {
	for _, name := range [...]string{"Grpc-Encoding", "Content-Encoding", "Connect-Content-Encoding"} {
		if encoding := Header(r, name); encoding != "" && encoding != "identity" {
			return true
		}
	}
	if r.Method != http.MethodGet {
		return false
	}
	encoding := r.URL.Query().Get("compression")
	return encoding != "" && encoding != "identity"
}
