package rpc

import (
	"net/http"

	"connectrpc.com/connect"
)

// A Reason is why the port refused a request before a handler saw it. Reasons are labels of a
// metric, so there is a fixed set of them.
type Reason string

// The reasons. Those of calls are named like the code that the caller gets.
const (
	ReasonOrigin            Reason = "origin"       // the page that calls is of an origin that is not allowed
	ReasonMethod            Reason = "method"       // the HTTP method is none that the procedure takes
	ReasonContentType       Reason = "content_type" // the content type is that of no RPC
	ReasonUnauthenticated   Reason = "unauthenticated"
	ReasonPermissionDenied  Reason = "permission_denied"
	ReasonResourceExhausted Reason = "resource_exhausted"
	ReasonUnavailable       Reason = "unavailable"
	ReasonUnimplemented     Reason = "unimplemented"     // no such procedure, or no such compression
	ReasonCanceled          Reason = "canceled"          // the caller left while its call waited
	ReasonDeadlineExceeded  Reason = "deadline_exceeded" // the deadline passed while the call waited
)

// Reasons is all of them, in the order of the documentation.
var Reasons = [...]Reason{
	ReasonOrigin, ReasonMethod, ReasonContentType, ReasonUnauthenticated, ReasonPermissionDenied, ReasonResourceExhausted,
	ReasonUnavailable, ReasonUnimplemented, ReasonCanceled, ReasonDeadlineExceeded,
}

var errorWriter = connect.NewErrorWriter()

// Refuse answers a request that does not get as far as its handler, and notes in the record of the
// call how it ended.
func Refuse(w http.ResponseWriter, r *http.Request, reason Reason, why *connect.Error) {
	if c := From(r.Context()); c != nil {
		c.Failure, c.Refused = why, reason
	}
	Answer(w, r, why)
}

// Answer writes an error: to an RPC in the protocol of its caller, to anything else as the HTTP
// status of the code and the text.
func Answer(w http.ResponseWriter, r *http.Request, why *connect.Error) {
	if _, ok := ParseMediaType(Header(r, "Content-Type")); ok && errorWriter.IsSupported(r) {
		// If writing fails the caller has gone, and the error is all that there was to say.
		_ = errorWriter.Write(w, r, why)
		return
	}
	http.Error(w, why.Message(), HTTPStatus(why.Code()))
}

// RefuseHTTP notes that a request is no RPC, and why. The function that calls it answers the request.
func RefuseHTTP(r *http.Request, reason Reason) {
	if c := From(r.Context()); c != nil {
		c.Protocol, c.Refused = NotRPC, reason
	}
}
