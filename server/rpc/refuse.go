package rpc

import (
	"net/http"

	"connectrpc.com/connect"
)

// A Reason is why the port refused a request before its handler. Reasons are the labels of a metric,
// so there is a fixed set of them.
type Reason string

// The reasons. From unauthenticated on they are named like the code of the error.
const (
	ReasonForwarded         Reason = "forwarded"    // headers of a proxy that do not tell the client
	ReasonOrigin            Reason = "origin"       // a page of an origin that is not allowed
	ReasonPreflight         Reason = "preflight"    // a page that may call, but not with this header or method
	ReasonMethod            Reason = "method"       // an HTTP method other than those of the procedure
	ReasonContentType       Reason = "content_type" // a content type that no RPC has
	ReasonUnauthenticated   Reason = "unauthenticated"
	ReasonPermissionDenied  Reason = "permission_denied"
	ReasonResourceExhausted Reason = "resource_exhausted"
	ReasonUnavailable       Reason = "unavailable"
	ReasonUnimplemented     Reason = "unimplemented"     // no such procedure, or no such compression
	ReasonCanceled          Reason = "canceled"          // the caller cancelled while the call waited
	ReasonDeadlineExceeded  Reason = "deadline_exceeded" // the deadline passed while the call waited
)

// Reasons lists all reasons, in the order of the documentation.
var Reasons = [...]Reason{
	ReasonForwarded, ReasonOrigin, ReasonPreflight, ReasonMethod, ReasonContentType, ReasonUnauthenticated, ReasonPermissionDenied, ReasonResourceExhausted,
	ReasonUnavailable, ReasonUnimplemented, ReasonCanceled, ReasonDeadlineExceeded,
}

var errorWriter = connect.NewErrorWriter()

// Refuse answers a request with an error in place of its handler, and records the error and the reason
// in the Call.
func Refuse(w http.ResponseWriter, r *http.Request, reason Reason, why *connect.Error) {
	if c := From(r.Context()); c != nil {
		c.Failure, c.Refused = why, reason
	}
	Answer(w, r, why)
}

// Answer writes an error: in the protocol of the caller if the request is an RPC, else as an HTTP
// status and a line of text.
func Answer(w http.ResponseWriter, r *http.Request, why *connect.Error) {
	if _, ok := RequestMediaType(r); ok && errorWriter.IsSupported(r) {
		// If writing fails, the caller has disconnected, and nothing is left to do.
		_ = errorWriter.Write(w, r, why)
		return
	}
	http.Error(w, why.Message(), HTTPStatus(why.Code()))
}

// RefuseHTTP records that a request is refused as no RPC, and the reason. It does not answer the
// request.
func RefuseHTTP(r *http.Request, reason Reason) {
	if c := From(r.Context()); c != nil {
		c.Protocol, c.Refused = NotRPC, reason
	}
}
