package server

import (
	"net/http"

	"connectrpc.com/connect"

	"example.com/roster/server/call"
)

// refuser answers requests that do not get as far as an RPC handler.
type refuser struct{ errors *connect.ErrorWriter }

func newRefuser() refuser { return refuser{connect.NewErrorWriter()} }

// refuse answers an RPC with why in the caller's own protocol, and anything
// else with the HTTP status of its code and why as text. It is in the record
// of the call either way.
func (f refuser) refuse(w http.ResponseWriter, r *http.Request, why *connect.Error) {
	if c := call.From(r.Context()); c != nil {
		c.Failure = why
		if c.Refused == "" {
			c.Refused = why.Code().String()
		}
	}
	if isRPC(r.Header.Get("Content-Type")) && f.errors.IsSupported(r) {
		// The error is all there is to say if the caller has gone.
		_ = f.errors.Write(w, r, why)
		return
	}
	http.Error(w, why.Message(), httpStatus(why.Code()))
}

// refuseHTTP notes that a request is no RPC, and why; its caller answers.
func refuseHTTP(r *http.Request, reason string) {
	if c := call.From(r.Context()); c != nil {
		c.Protocol, c.Refused = call.NotRPC, reason
	}
}

// httpStatus is the status that the Connect protocol has for a code.
func httpStatus(code connect.Code) int {
	switch code {
	case connect.CodeUnauthenticated:
		return http.StatusUnauthorized
	case connect.CodePermissionDenied:
		return http.StatusForbidden
	case connect.CodeNotFound:
		return http.StatusNotFound
	case connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeOutOfRange:
		return http.StatusBadRequest
	case connect.CodeResourceExhausted:
		return http.StatusTooManyRequests
	case connect.CodeUnimplemented:
		return http.StatusNotImplemented
	case connect.CodeUnavailable:
		return http.StatusServiceUnavailable
	case connect.CodeDeadlineExceeded:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}
