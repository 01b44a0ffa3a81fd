package service

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/time/rate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"

	"example.com/roster/directory"
	"example.com/roster/server/rpc"
)

// codes is the only table from errors of the domain to codes on the wire. The caller gets the text,
// or the error's own text where the table has none. An error that is not in the table is a fault of
// the server: the caller gets "internal error", and the log gets the whole error.
var codes = []struct {
	err  error
	code connect.Code
	text string
}{
	{err: directory.ErrInvalid, code: connect.CodeInvalidArgument},
	// Before ErrUnavailable, with which these come. With the first, to call again does not help.
	{err: directory.ErrDamaged, code: connect.CodeDataLoss, text: "a part of the user store is damaged: other users are answered"},
	{err: directory.ErrFull, code: connect.CodeUnavailable, text: "no space is left for the user store: it can be read, and changed again when there is space"},
	{err: directory.ErrUnavailable, code: connect.CodeUnavailable, text: "the user store does not answer: try again"},
	{err: directory.ErrReadOnly, code: connect.CodeFailedPrecondition, text: "the user store is read-only"},
	{err: directory.ErrHistory, code: connect.CodeOutOfRange},
	{err: directory.ErrNoID, code: connect.CodeResourceExhausted, text: "no new id is left, since 2147483647 has been used: create the user with an id that is free"},
	{err: directory.ErrOverdue, code: connect.CodeAborted, text: "the answer was read so slowly that the store could no longer keep its state: call again, and read faster or ask for less"},
	{err: directory.ErrNotFound, code: connect.CodeNotFound},
	{err: directory.ErrExists, code: connect.CodeAlreadyExists},
	{err: directory.ErrEmailTaken, code: connect.CodeAlreadyExists},
	{err: directory.ErrChanged, code: connect.CodeAborted},
	{err: context.Canceled, code: connect.CodeCanceled, text: "the call was cancelled"},
	{err: context.DeadlineExceeded, code: connect.CodeDeadlineExceeded, text: "the deadline passed before the answer was ready"},
}

// wireError returns the error that the caller gets for err, and whether it hides a fault which must
// be logged.
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
		return connect.NewError(row.code, errors.New(row.text)), ofStore(row.code)
	}
	return errInternal(), true
}

// ofStore reports whether a code means that the store could not answer, as the log says in full.
func ofStore(code connect.Code) bool {
	return code == connect.CodeUnavailable || code == connect.CodeDataLoss
}

// errInternal returns the error that the caller gets for a fault of the server.
func errInternal() *connect.Error {
	return connect.NewError(connect.CodeInternal, errors.New("internal error"))
}

// retryAfter adds to err that a caller may call again after a time.
func retryAfter(err *connect.Error, after time.Duration) *connect.Error {
	if detail, failed := connect.NewErrorDetail(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)}); failed == nil {
		err.AddDetail(detail)
	}
	return err
}

// errorInterceptor translates every error of a handler by the table, and turns a panic into an
// error.
type errorInterceptor struct {
	log *slog.Logger
	// unavailable limits the log lines about a store that does not answer, since every call fails
	// then.
	unavailable *rate.Limiter
}

func newErrorInterceptor(log *slog.Logger) errorInterceptor {
	return errorInterceptor{log, rate.NewLimiter(1, 10)}
}

// WrapUnary implements connect.Interceptor.
func (i errorInterceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (response connect.AnyResponse, err error) {
		defer func() { err = i.translate(ctx, request.Spec(), err, recover()) }()
		return next(ctx, request)
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (i errorInterceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) (err error) {
		defer func() { err = i.translate(ctx, conn.Spec(), err, recover()) }()
		return next(ctx, conn)
	}
}

// WrapStreamingClient implements connect.Interceptor. A server never calls it.
func (i errorInterceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// translate returns the error that the caller gets, and notes it in the record of the call.
func (i errorInterceptor) translate(ctx context.Context, spec connect.Spec, err error, panicked any) error {
	wire := i.wire(ctx, spec, err, panicked)
	if c := rpc.From(ctx); c != nil {
		c.Handled, c.Failure = true, wire
	}
	if wire == nil {
		return nil // and not wire, which would be a non-nil error with a nil pointer in it
	}
	return wire
}

// wire is translate without the record. It logs the errors that the caller does not get to read.
func (i errorInterceptor) wire(ctx context.Context, spec connect.Spec, err error, panicked any) *connect.Error {
	switch {
	case panicked == http.ErrAbortHandler:
		panic(panicked) // the HTTP server handles this one
	case panicked != nil:
		i.log.ErrorContext(ctx, "handler panicked", "procedure", spec.Procedure, "panic", panicked, "stack", string(debug.Stack()))
		return errInternal()
	case err == nil:
		return nil
	}
	wire, hidden := wireError(err)
	if c := rpc.From(ctx); c != nil && wire.Code() == connect.CodeDeadlineExceeded && errors.Is(err, context.DeadlineExceeded) {
		if limit, over := c.Overdue(); over {
			return rpc.Overdue(limit)
		}
	}
	if hidden && (!ofStore(wire.Code()) || i.unavailable.Allow()) {
		i.log.ErrorContext(ctx, "call failed", "procedure", spec.Procedure, "code", wire.Code().String(), "error", err.Error())
	}
	return wire
}
