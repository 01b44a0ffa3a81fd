package gate

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	"example.com/roster/server/rpc"
)

// wrapProtocol refuses HTTP methods, content types, compressions and deadlines that the handler does
// not support, with an error that says what to send; Connect's own has no text, or one that names a Go
// function. GET is only for procedures without side effects, because browsers send a GET to follow or
// prefetch a link.
func wrapProtocol(method *rpc.Method, next http.Handler) http.Handler {
	allow, accept := http.MethodPost, rpc.AcceptPost
	if method.Gettable() {
		allow = "GET, HEAD, POST"
	}
	if method.Streams() {
		accept = rpc.AcceptPostStream
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var media rpc.MediaType
		var ok bool
		if r.Method == http.MethodGet {
			w.Header().Set("Cache-Control", "no-store") // also for refusals, some of which caches may keep
		}
		switch {
		case r.Method == http.MethodPost:
			contentType := rpc.Header(r, "Content-Type")
			media, ok = rpc.ParseMediaType(contentType)
			if !ok || !media.Fits(method) {
				rpc.RefuseHTTP(r, rpc.ReasonContentType)
				w.Header().Set("Accept-Post", accept)
				http.Error(w, fmt.Sprintf("content-type %q is not one of %s, for example\n%s", contentType, accept, tryPost(method, r)),
					http.StatusUnsupportedMediaType)
				return
			}
			if media.UnknownCodec {
				rpc.Refuse(w, r, rpc.ReasonUnimplemented, connect.NewError(connect.CodeUnimplemented, fmt.Errorf(
					"content-type %.50q: messages can be protobuf (+proto) or JSON (+json), and of no other kind", contentType)))
				return
			}
			if encoding := rpc.Header(r, "Grpc-Encoding"); media.Protocol != rpc.Connect && !rpc.IsCompression(encoding) {
				// Connect's own answer has an empty Grpc-Encoding, which newer grpcio rejects.
				w.Header().Set("Grpc-Accept-Encoding", rpc.Compressions)
				rpc.Refuse(w, r, rpc.ReasonUnimplemented, connect.NewError(connect.CodeUnimplemented, fmt.Errorf(
					"unknown compression %.50q: supported encodings are %s", encoding, rpc.Compressions)))
				return
			}
			if r.ProtoMajor == 1 && method.ClientStreams && method.ServerStreams {
				// A client that expects to send and receive at once would wait on this connection.
				w.Header().Set("Connection", "close")
				rpc.Refuse(w, r, rpc.ReasonUnimplemented, connect.NewError(connect.CodeUnimplemented, fmt.Errorf(
					"%s streams in both directions, which needs HTTP/2: this call came over %s", method.Path, r.Proto)))
				return
			}
		case r.Method == http.MethodGet && method.Gettable():
			if media, ok = rpc.RequestMediaType(r); !ok {
				rpc.RefuseHTTP(r, rpc.ReasonContentType)
				http.Error(w, fmt.Sprintf(
					"encoding %q is not json or proto: a GET of %s has its message in the query, for example\n%s",
					r.URL.Query().Get("encoding"), method.Path, tryGet(method, r)), http.StatusUnsupportedMediaType)
				return
			}
		default:
			rpc.RefuseHTTP(r, rpc.ReasonMethod)
			w.Header().Set("Allow", allow)
			http.Error(w, fmt.Sprintf("%s is a remote procedure: call it with POST, for example\n%s", method.Path, tryPost(method, r)),
				http.StatusMethodNotAllowed)
			return
		}
		if why := rpc.CheckTimeout(media, r); why != nil {
			rpc.Refuse(w, r, rpc.ReasonInvalidArgument, why)
			return
		}
		if media.InStatus {
			canonicalizeEncodings(r)
		}
		next.ServeHTTP(w, r)
	})
}

// canonicalizeEncodings brings the content codings of a request into the form that Connect knows: names
// in lower case, those that the client accepts in the order of its preference and without weights (RFC
// 9110 §12.5.3).
func canonicalizeEncodings(r *http.Request) {
	if sent := rpc.Header(r, "Content-Encoding"); sent != "" {
		r.Header["Content-Encoding"] = []string{coding(sent)}
	}
	accepted := r.Header["Accept-Encoding"]
	if len(accepted) == 0 || len(accepted) == 1 && !strings.ContainsAny(accepted[0], ";ABCDEFGHIJKLMNOPQRSTUVWXYZ-") {
		return
	}
	type weighted struct {
		name   string
		weight float64
	}
	var codings []weighted
	for part := range strings.SplitSeq(strings.Join(accepted, ","), ",") {
		name, parameter, _ := strings.Cut(part, ";")
		c := weighted{coding(name), 1}
		if q, ok := strings.CutPrefix(strings.ToLower(strings.ReplaceAll(parameter, " ", "")), "q="); ok {
			// What is no number is 0, and not accepted: an uncompressed reply is always right.
			c.weight, _ = strconv.ParseFloat(q, 64)
		}
		if c.weight > 0 {
			codings = append(codings, c)
		}
	}
	slices.SortStableFunc(codings, func(a, b weighted) int { return cmp.Compare(b.weight, a.weight) })
	var names []string
	for _, c := range codings {
		names = append(names, c.name)
	}
	r.Header["Accept-Encoding"] = []string{strings.Join(names, ", ")}
}

// coding is the name of a content coding (RFC 9110 §8.4.1).
func coding(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	if name == "x-gzip" {
		return "gzip"
	}
	return name
}

// tryPost is a command that calls the method with an example. A stream has an envelope before its
// message: a byte of flags and four of length.
func tryPost(method *rpc.Method, r *http.Request) string {
	message := cmp.Or(method.Example, "{}")
	if !method.Streams() {
		return fmt.Sprintf("curl -H 'content-type: application/json'%s -d '%s' '%s'", tryToken(r), message, tryURL(method, r))
	}
	version := ""
	if method.ClientStreams && r.TLS == nil {
		version = " --http2-prior-knowledge"
	}
	n := len(message)
	return fmt.Sprintf(`printf '\000\000\000\%03o\%03o%s' | curl%s -N -o - -H 'content-type: application/connect+json'%s --data-binary @- '%s'`,
		n>>8&0xff, n&0xff, message, version, tryToken(r), tryURL(method, r))
}

// tryGet is a command that calls the method by GET.
func tryGet(method *rpc.Method, r *http.Request) string {
	return fmt.Sprintf("curl -G%s -d connect=v1 -d encoding=json --data-urlencode 'message=%s' '%s'",
		tryToken(r), cmp.Or(method.Example, "{}"), tryURL(method, r))
}

// tryToken is the option of curl that sends a token, as this call did. The variable is that of the
// commands of roster.
func tryToken(r *http.Request) string {
	if len(r.Header["Authorization"]) == 0 {
		return ""
	}
	return ` -H "authorization: Bearer $ROSTER_TOKEN"`
}

// tryURL is the URL of the method on this port, as the caller names it. A Host may have any character
// of a URL, and the command is pasted into a shell, so a strange one is left out.
func tryURL(method *rpc.Method, r *http.Request) string {
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if host == "" || strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]") != "" {
		host = "HOST"
	}
	return scheme + "://" + host + method.Path
}
