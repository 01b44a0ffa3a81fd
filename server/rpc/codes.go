package rpc

import (
	"net/http"

	"connectrpc.com/connect"
)

// statusClientClosedRequest is what the Connect protocol answers to a call that was cancelled.
const statusClientClosedRequest = 499

// statuses is the one table of codes and HTTP statuses, as the Connect protocol has them
// (https://connectrpc.com/docs/protocol/#error-codes). Several codes share a status: the first row
// of a status is what it is read as, the first row of a code what it is written as.
var statuses = [...]struct {
	code   connect.Code
	status int
}{
	{connect.CodeCanceled, statusClientClosedRequest},
	{connect.CodeInternal, http.StatusInternalServerError},
	{connect.CodeUnknown, http.StatusInternalServerError},
	{connect.CodeDataLoss, http.StatusInternalServerError},
	{connect.CodeInvalidArgument, http.StatusBadRequest},
	{connect.CodeFailedPrecondition, http.StatusBadRequest},
	{connect.CodeOutOfRange, http.StatusBadRequest},
	{connect.CodeDeadlineExceeded, http.StatusGatewayTimeout},
	{connect.CodeAlreadyExists, http.StatusConflict},
	{connect.CodeAborted, http.StatusConflict},
	{connect.CodePermissionDenied, http.StatusForbidden},
	{connect.CodeResourceExhausted, http.StatusTooManyRequests},
	{connect.CodeUnavailable, http.StatusServiceUnavailable},
	{connect.CodeUnauthenticated, http.StatusUnauthorized},
	{connect.CodeUnimplemented, http.StatusNotImplemented},
	// A path that is not there is answered with 404 and the code unimplemented, so 404 is read as that
	// although not_found is written so, too.
	{connect.CodeUnimplemented, http.StatusNotFound},
	{connect.CodeNotFound, http.StatusNotFound},
	// Written by net/http, for a body that is too long.
	{connect.CodeResourceExhausted, http.StatusRequestEntityTooLarge},
}

// HTTPStatus is the HTTP status that the Connect protocol has for a code.
func HTTPStatus(code connect.Code) int {
	for _, row := range statuses {
		if row.code == code {
			return row.status
		}
	}
	return http.StatusInternalServerError
}

// CodeOfStatus is the code that an HTTP status stands for. It reports false for a status that stands
// for none.
func CodeOfStatus(status int) (connect.Code, bool) {
	for _, row := range statuses {
		if row.status == status {
			return row.code, true
		}
	}
	return 0, false
}
