package rpc

import (
	"net/http"

	"connectrpc.com/connect"
)

// statusClientClosedRequest is the HTTP status of a cancelled call in the Connect protocol.
const statusClientClosedRequest = 499

// statuses maps codes to HTTP statuses and back, as the Connect protocol defines them
// (https://connectrpc.com/docs/protocol/#error-codes). Several codes share a status: a code is written
// as the status of its first row, and a status is read as the code of its first row.
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
	// An unknown path is answered with 404 and the code unimplemented. So 404 is read as
	// unimplemented, although not_found is written as 404, too.
	{connect.CodeUnimplemented, http.StatusNotFound},
	{connect.CodeNotFound, http.StatusNotFound},
	// Written by net/http, for a body that is too long.
	{connect.CodeResourceExhausted, http.StatusRequestEntityTooLarge},
}

// HTTPStatus is the HTTP status of a code in the Connect protocol.
func HTTPStatus(code connect.Code) int {
	for _, row := range statuses {
		if row.code == code {
			return row.status
		}
	}
	return http.StatusInternalServerError
}

// CodeOfStatus is the code that an HTTP status stands for. It reports false if the status stands for
// no code.
func CodeOfStatus(status int) (connect.Code, bool) {
	for _, row := range statuses {
		if row.status == status {
			return row.code, true
		}
	}
	return 0, false
}
