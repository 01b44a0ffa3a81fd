package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"

	"connectrpc.com/connect"

	"example.com/roster/directory"
)

// codes is the one table from errors of the domain to codes on the wire. The
// text is what the caller reads; where there is none, it is the error's own.
// An error that is not here is a fault of ours: the caller reads no more than
// "internal error", the log has all of it.
var codes = []struct {
	err  error
	code connect.Code
	text string
}{
	{err: directory.ErrInvalid, code: connect.CodeInvalidArgument},
	{err: directory.ErrUnavailable, code: connect.CodeUnavailable, text: "the user store does not answer: try again"},
	{err: directory.ErrReadOnly, code: connect.CodeFailedPrecondition, text: "the user store is read-only"},
	{err: context.Canceled, code: connect.CodeCanceled, text: "the call was cancelled"},
	{err: context.DeadlineExceeded, code: connect.CodeDeadlineExceeded, text: "the deadline passed before the answer was ready"},
}

// wireError is what the caller is told of err, and whether that hides a fault
// that the log should have.
func wireError(err error) (wire *connect.Error, hidden bool) {
	if errors.As(err, &wire) {
		return wire, false
	}
	for _, row := range codes {
		if !errors.Is(err, row.err) {
			continue
		}
		if row.text == "" {
			return connect.NewError(row.code, err), false
		}
		return connect.NewError(row.code, errors.New(row.text)), row.code == connect.CodeUnavailable
	}
	return connect.NewError(connect.CodeInternal, errors.New("internal error")), true
}

// errorInterceptor puts every error of a handler through the table.
type errorInterceptor struct{ log *slog.Logger }

func (i errorInterceptor) translate(ctx context.Context, spec connect.Spec, err error) error {
	if err == nil {
		return nil
	}
	wire, hidden := wireError(err)
	if hidden {
		i.log.ErrorContext(ctx, "call failed", "procedure", spec.Procedure, "code", wire.Code().String(), "error", err.Error())
	}
	return wire
}

// WrapUnary implements connect.Interceptor.
func (i errorInterceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		response, err := next(ctx, request)
		return response, i.translate(ctx, request.Spec(), err)
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (i errorInterceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return i.translate(ctx, conn.Spec(), next(ctx, conn))
	}
}

// WrapStreamingClient implements connect.Interceptor; servers have no clients.
func (i errorInterceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// recovered logs a panic of a handler; its caller reads "internal error".
func recovered(log *slog.Logger) func(context.Context, connect.Spec, http.Header, any) error {
	return func(ctx context.Context, spec connect.Spec, _ http.Header, value any) error {
		log.ErrorContext(ctx, "handler panicked", "procedure", spec.Procedure, "panic", value, "stack", string(debug.Stack()))
		return connect.NewError(connect.CodeInternal, errors.New("internal error"))
	}
}
