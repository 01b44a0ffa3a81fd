package server

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/server/api"
	"example.com/roster/server/h2"
)

// maxBodyBytes bounds what is read of a request: one message of the largest
// size, its envelope, and some of what is too much.
const maxBodyBytes = api.MaxMessageBytes + 64<<10

// guard is what a request passes before its RPC handler: the method and the
// content type are ones that it speaks (Connect would refuse others with no
// word), and a body of one message keeps its bounds in size and in time. A
// stream of messages may be as long and as quiet as its caller likes. GET is
// for procedures without side effects alone, since links and prefetching
// browsers send it unasked.
func guard(route api.Route, stall time.Duration, refuser refuser) http.Handler {
	allow := http.MethodPost
	if route.SideEffectFree {
		allow = http.MethodGet + ", " + http.MethodPost
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			if contentType := header(r, "Content-Type"); !isRPC(contentType) {
				refuseHTTP(r, "content_type")
				w.Header().Set("Accept-Post", rpcTypes)
				http.Error(w, fmt.Sprintf("content-type %q is not one of %s",
					contentType, rpcTypes), http.StatusUnsupportedMediaType)
				return
			}
			if encoding := header(r, "Grpc-Encoding"); !isEncoding(encoding) {
				// Connect's own answer has an empty Grpc-Encoding, on which newer
				// grpcio breaks.
				w.Header().Set("Grpc-Accept-Encoding", "gzip")
				refuser.refuse(w, r, connect.NewError(connect.CodeUnimplemented, fmt.Errorf(
					"unknown compression %.50q: supported encodings are gzip", encoding)))
				return
			}
		case r.Method == http.MethodGet && route.SideEffectFree:
			if encoding := r.URL.Query().Get("encoding"); encoding != "json" && encoding != "proto" {
				refuseHTTP(r, "content_type")
				http.Error(w, fmt.Sprintf(
					"encoding %q is not json or proto: a GET of %s has its message in the query, for example\ncurl -G -d connect=v1 -d encoding=json --data-urlencode 'message={}' http://%s%s",
					encoding, route.Path, r.Host, route.Path), http.StatusUnsupportedMediaType)
				return
			}
		default:
			refuseHTTP(r, "method")
			w.Header().Set("Allow", allow)
			http.Error(w, fmt.Sprintf(
				"%s is a remote procedure: call it with POST, for example\ncurl -H 'content-type: application/json' -d '{}' http://%s%s",
				route.Path, r.Host, route.Path), http.StatusMethodNotAllowed)
			return
		}
		if route.ClientStreams {
			route.Handler.ServeHTTP(w, r)
			return
		}
		size, ok := complete(r)
		if !ok {
			body := &boundBody{
				ReadCloser: http.MaxBytesReader(serversOwn(w), r.Body, maxBodyBytes),
				request:    r,
				control:    http.NewResponseController(w),
				timeout:    stall,
				budgeted:   !route.ServerStreams,
				enveloped:  isEnveloped(header(r, "Content-Type")),
			}
			defer body.stop()
			defer body.share.giveBack()
			if r.Method == http.MethodGet { // has its message in the query
				if err := body.share.take(r.Context(), unpackedSize(r, int64(len(r.URL.RawQuery)))); err != nil {
					refuser.refuse(w, r, gone(r.Context(), err))
					return
				}
			}
			r.Body = body
			route.Handler.ServeHTTP(w, r)
			return
		}
		if route.ServerStreams {
			route.Handler.ServeHTTP(w, r)
			return
		}
		var share share
		if err := share.take(r.Context(), unpackedSize(r, size)); err != nil {
			refuser.refuse(w, r, gone(r.Context(), err))
			return
		}
		defer share.giveBack()
		// Connect flushes after the message and again after the trailers.
		route.Handler.ServeHTTP(h2.OnePiece(w), r)
		w.WriteHeader(http.StatusOK) // of a reply that is trailers alone, for those who observe it
	})
}

// header is the first value of a field whose name is in canonical form, so that
// it needs no look at the name.
func header(r *http.Request, name string) string {
	if values := r.Header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// serversOwn is the ResponseWriter beneath those that wrap it. http.MaxBytesReader
// tells it, and no other, to close the connection of a body that is too long.
func serversOwn(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapper.Unwrap()
	}
}

// isEncoding tells whether messages may be compressed so.
func isEncoding(name string) bool { return name == "" || name == "identity" || name == "gzip" }

// isEnveloped tells whether messages of a content type have their length before
// them.
func isEnveloped(contentType string) bool {
	return strings.HasPrefix(contentType, "application/grpc") || strings.HasPrefix(contentType, "application/connect+")
}

// complete tells whether package h2 holds all of the body already, and its
// size in bytes. Then it is within that package's own bounds, and nothing of
// it is waited for.
func complete(r *http.Request) (size int64, ok bool) {
	if body, ok := r.Body.(h2.Body); ok {
		return body.Complete()
	}
	return 0, false
}

// rpcTypes names the content types of a unary call, for those who sent another.
const rpcTypes = "application/json, application/proto, application/grpc, application/grpc+json, " +
	"application/grpc-web, application/grpc-web+json"

// isRPC tells whether a content type is one that the handlers speak.
func isRPC(contentType string) bool {
	switch contentType {
	case "application/grpc", "application/grpc+proto", "application/grpc+json",
		"application/grpc-web", "application/grpc-web+proto", "application/grpc-web+json",
		"application/proto", "application/json", "application/json; charset=utf-8",
		"application/connect+proto", "application/connect+json":
		return true
	}
	base, parameters, err := mime.ParseMediaType(contentType)
	if err != nil || base == contentType {
		return false
	}
	charset := parameters["charset"]
	return isRPC(base) && (charset == "" || strings.EqualFold(charset, "utf-8"))
}

// noSuchMethod answers a call of a procedure that does not exist in the
// caller's own protocol; everything else goes to next.
func noSuchMethod(routes []api.Route, next http.Handler, refuser refuser) http.Handler {
	paths := make([]string, len(routes))
	for i, route := range routes {
		paths[i] = route.Path
	}
	unknown := errors.New("no such procedure: this server has " + strings.Join(paths, ", "))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && isRPC(r.Header.Get("Content-Type")) {
			refuser.refuse(notFound{w}, r, connect.NewError(connect.CodeUnimplemented, unknown))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// notFound answers 404 where a unary call of Connect, the one whose errors are
// HTTP statuses, would have 501: the path is what does not exist, and clients
// and conformance tests of Connect look for that. The body says unimplemented.
type notFound struct{ http.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w notFound) WriteHeader(status int) {
	if status == http.StatusNotImplemented {
		status = http.StatusNotFound
	}
	w.ResponseWriter.WriteHeader(status)
}
