package gate

import (
	"fmt"
	"net/http"

	"connectrpc.com/connect"

	"example.com/roster/server/rpc"
)

// wrapProtocol refuses HTTP methods, content types and compressions that the handler does not support,
// with an error that says what to send; Connect's own has no text. GET is only for procedures without
// side effects, because browsers send a GET to follow or prefetch a link.
func wrapProtocol(method *rpc.Method, next http.Handler) http.Handler {
	allow, accept := http.MethodPost, rpc.AcceptPost
	get := method.SideEffectFree && !method.Streams()
	if get {
		allow = http.MethodGet + ", " + http.MethodPost
	}
	if method.Streams() {
		accept = rpc.AcceptPostStream
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			contentType := rpc.Header(r, "Content-Type")
			media, ok := rpc.ParseMediaType(contentType)
			if !ok || !media.Fits(method) {
				rpc.RefuseHTTP(r, rpc.ReasonContentType)
				w.Header().Set("Accept-Post", accept)
				http.Error(w, fmt.Sprintf("content-type %q is not one of %s", contentType, accept),
					http.StatusUnsupportedMediaType)
				return
			}
			if encoding := rpc.Header(r, "Grpc-Encoding"); media.Protocol != rpc.Connect && !rpc.IsCompression(encoding) {
				// Connect's own answer has an empty Grpc-Encoding, which newer grpcio rejects.
				w.Header().Set("Grpc-Accept-Encoding", rpc.Compressions)
				rpc.Refuse(w, r, rpc.ReasonUnimplemented, connect.NewError(connect.CodeUnimplemented, fmt.Errorf(
					"unknown compression %.50q: supported encodings are %s", encoding, rpc.Compressions)))
				return
			}
		case r.Method == http.MethodGet && get:
			if _, ok := rpc.RequestMediaType(r); !ok {
				rpc.RefuseHTTP(r, rpc.ReasonContentType)
				http.Error(w, fmt.Sprintf(
					"encoding %q is not json or proto: a GET of %s has its message in the query, for example\ncurl -G -d connect=v1 -d encoding=json --data-urlencode 'message={}' http://%s%s",
					r.URL.Query().Get("encoding"), method.Path, r.Host, method.Path), http.StatusUnsupportedMediaType)
				return
			}
		default:
			rpc.RefuseHTTP(r, rpc.ReasonMethod)
			w.Header().Set("Allow", allow)
			http.Error(w, fmt.Sprintf(
				"%s is a remote procedure: call it with POST, for example\ncurl -H 'content-type: application/json' -d '{}' http://%s%s",
				method.Path, r.Host, method.Path), http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}
