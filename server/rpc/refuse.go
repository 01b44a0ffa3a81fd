package rpc

import (
	"math"
	"net/http"
	"strconv"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

// A Reason is why the port refused a request before its handler. Reasons are the labels of a metric,
// so there is a fixed set of them.
type Reason string

// The reasons. From invalid_argument on they are named like the code of the error.
const (
	ReasonForwarded         Reason = "forwarded"        // headers of a proxy that do not tell the client
	ReasonOrigin            Reason = "origin"           // a page of an origin that is not allowed
	ReasonPreflight         Reason = "preflight"        // a page that may call, but not with this header or method
	ReasonMethod            Reason = "method"           // an HTTP method other than those of the procedure
	ReasonContentType       Reason = "content_type"     // a content type that no RPC has
	ReasonInvalidArgument   Reason = "invalid_argument" // a deadline that cannot be read
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
	ReasonForwarded, ReasonOrigin, ReasonPreflight, ReasonMethod, ReasonContentType, ReasonInvalidArgument, ReasonUnauthenticated,
	ReasonPermissionDenied, ReasonResourceExhausted, ReasonUnavailable, ReasonUnimplemented, ReasonCanceled, ReasonDeadlineExceeded,
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
// status and a line of text. If the error has a RetryInfo, and is an HTTP status, it has a Retry-After
// as well.
func Answer(w http.ResponseWriter, r *http.Request, why *connect.Error) {
	Canonicalize(r)
	w, end := TextMode(w, r)
	defer end()
	media, ok := RequestMediaType(r)
	if after := retryAfter(why); after > 0 && (!ok || media.InStatus) {
		w.Header().Set("Retry-After", strconv.Itoa(after))
	}
	switch {
	case !ok || !errorWriter.IsSupported(r):
		http.Error(w, why.Message(), HTTPStatus(why.Code()))
	case media.Protocol == GRPC:
		// Connect announces the trailers in a header field, which gRPC clients present as metadata of
		// the call. Without a message, the whole reply may be one header (Trailers-Only).
		_ = errorWriter.Write(unsent{w}, r, why)
		w.Header().Del("Trailer")
		w.WriteHeader(http.StatusOK)
	default:
		// If writing fails, the caller has disconnected, and nothing is left to do.
		_ = errorWriter.Write(w, r, why)
	}
}

// unsent is a ResponseWriter whose header can be changed after WriteHeader.
type unsent struct{ http.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (unsent) WriteHeader(int) {}

// retryAfter is the delay in seconds that the RetryInfo of an error asks for, rounded up, and 0 if it
// has none.
func retryAfter(why *connect.Error) int {
	for _, detail := range why.Details() {
		message, err := detail.Value()
		if info, ok := message.(*errdetails.RetryInfo); ok && err == nil {
			return int(math.Ceil(info.GetRetryDelay().AsDuration().Seconds()))
		}
	}
	return 0
}

// RefuseHTTP records that a request is refused as no RPC, and the reason. It does not answer the
// request.
func RefuseHTTP(r *http.Request, reason Reason) {
	if c := From(r.Context()); c != nil {
		c.Protocol, c.Refused = NotRPC, reason
	}
}
