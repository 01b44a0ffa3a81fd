package rpc

import "net/http"

// Compressions names the compressions of messages, as the header Grpc-Accept-Encoding has them.
const Compressions = "gzip"

// IsCompression tells whether a message may be compressed so: the name is that of a header such as
// Grpc-Encoding, where no name means uncompressed.
func IsCompression(name string) bool { return name == "" || name == "identity" || name == "gzip" }

// Compressed tells whether a request says that its message is compressed: by the header that its
// protocol has for that, or, in Connect's GET, by its query.
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
