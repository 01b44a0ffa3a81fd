package gate

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"example.com/roster/server/rpc"
)

// wrapGet adds to the reply of a GET of Connect what a GET has besides: an ETag, 304 for a client that
// has this reply already, and headers that keep other parties from it. A cache of the client's own may
// keep users, but has to ask each time whether they have changed, and the port then decides again who
// may read them. Nobody may keep an error or the state of the server.
//
// It is the last gate, so that the reply, which it keeps until it knows the ETag, is charged to the
// budget until it has been sent.
func wrapGet(method *rpc.Method, next http.Handler) http.Handler {
	if !method.Gettable() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			next.ServeHTTP(w, r)
			return
		}
		whole := &wholeReply{ResponseWriter: w}
		next.ServeHTTP(whole, r)
		whole.send(w, r, method)
	})
}

// A wholeReply keeps a reply until the handler has returned. Its size is that of one message.
type wholeReply struct {
	http.ResponseWriter
	status int
	body   []byte
}

// WriteHeader implements http.ResponseWriter.
func (w *wholeReply) WriteHeader(status int) {
	if w.status < 200 { // informational statuses come before the final one
		w.status = status
	}
}

// Write implements http.ResponseWriter.
func (w *wholeReply) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body = append(w.body, p...)
	return len(p), nil
}

// Unwrap is for http.ResponseController.
func (w *wholeReply) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// send sends the reply.
func (whole *wholeReply) send(w http.ResponseWriter, r *http.Request, method *rpc.Method) {
	header := w.Header()
	// A page of another origin can request it without a preflight; it must not get it as a script or an
	// image either.
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("X-Content-Type-Options", "nosniff")
	switch {
	case whole.status == http.StatusUnsupportedMediaType && len(whole.body) == 0:
		// Connect says no more about a request with a body.
		rpc.RefuseHTTP(r, rpc.ReasonContentType)
		http.Error(w, fmt.Sprintf("a GET of %s has its message in the query and no body, for example\n%s", method.Path, tryGet(method, r)),
			http.StatusUnsupportedMediaType)
		return
	case whole.status == http.StatusOK:
		digest := sha256.Sum256(whole.body)
		tag := `"` + hex.EncodeToString(digest[:12]) + `"`
		header.Set("ETag", tag)
		if !method.Vital {
			header.Set("Cache-Control", "private, no-cache")
		}
		if matchesTag(r.Header["If-None-Match"], tag) {
			header.Del("Content-Encoding")
			header.Del("Content-Type")
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	header.Set("Content-Length", strconv.Itoa(len(whole.body)))
	w.WriteHeader(max(whole.status, http.StatusOK))
	// A write fails only if the client has gone, and then there is nobody to report it to.
	_, _ = w.Write(whole.body)
}

// matchesTag compares weakly, as If-None-Match is compared (RFC 9110 §13.1.2).
func matchesTag(values []string, tag string) bool {
	for candidate := range strings.SplitSeq(strings.Join(values, ","), ",") {
		candidate = strings.TrimSpace(candidate)
		if candidate == "*" || strings.TrimPrefix(candidate, "W/") == tag {
			return true
		}
	}
	return false
}
