package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/directory"
)

// For each error of a handler: what the caller gets, and what the log has.
func TestErrorsOnTheWire(t *testing.T) {
	secret := errors.New("disk /dev/sda1: password is hunter2")
	tests := []struct {
		name   string
		result func() error
		code   connect.Code
		text   string
		logged string
	}{
		{"unknown", func() error { return secret }, connect.CodeInternal, "internal error", "hunter2"},
		{"wrapped unknown", func() error { return fmt.Errorf("look up: %w", secret) }, connect.CodeInternal, "internal error", "hunter2"},
		{"panic", func() error { panic(secret) }, connect.CodeInternal, "internal error", "hunter2"},
		{"store away", func() error { return fmt.Errorf("%w: roster.db: %w", directory.ErrUnavailable, secret) }, connect.CodeUnavailable, "the user store does not answer: try again", "hunter2"},
		{"store full", func() error { return fmt.Errorf("%w: %w: %w", directory.ErrUnavailable, directory.ErrFull, secret) }, connect.CodeUnavailable, "no space is left for the user store: it can be read, and changed again when there is space", "hunter2"},
		{"store damaged", func() error { return fmt.Errorf("%w: %w: %w", directory.ErrUnavailable, directory.ErrDamaged, secret) }, connect.CodeDataLoss, "a part of the user store is damaged: other users are answered", "hunter2"},
		{"read-only", func() error { return fmt.Errorf("%w: %w", directory.ErrReadOnly, secret) }, connect.CodeFailedPrecondition, "the user store is read-only", ""},
		{"invalid", func() error { return fmt.Errorf("%w: age -1 is not between 0 and 150", directory.ErrInvalid) }, connect.CodeInvalidArgument, "age -1 is not between", ""},
		{"cancelled", func() error { return context.Canceled }, connect.CodeCanceled, "the call was cancelled", ""},
		{"too late", func() error { return fmt.Errorf("query: %w", context.DeadlineExceeded) }, connect.CodeDeadlineExceeded, "the deadline passed before the answer was ready", ""},
		{"meant for the caller", func() error { return connect.NewError(connect.CodeResourceExhausted, errors.New("too many")) }, connect.CodeResourceExhausted, "too many", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			const procedure = "/test.Service/Call"
			handler := connect.NewUnaryHandlerSimple(procedure,
				func(context.Context, *emptypb.Empty) (*emptypb.Empty, error) { return nil, test.result() },
				HandlerOptions(slog.New(slog.NewTextHandler(&log, nil))))
			server := httptest.NewServer(handler)
			defer server.Close()
			client := connect.NewClient[emptypb.Empty, emptypb.Empty](server.Client(), server.URL+procedure)
			_, err := client.CallUnary(t.Context(), connect.NewRequest(&emptypb.Empty{}))
			if connect.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the caller reads %v, want %v %q", err, test.code, test.text)
			}
			if test.logged == "" && log.Len() > 0 || !strings.Contains(log.String(), test.logged) {
				t.Errorf("the log has %q, want %q", log.String(), test.logged)
			}
			if test.logged != "" && !strings.Contains(log.String(), procedure) {
				t.Errorf("the log does not name the procedure: %q", log.String())
			}
		})
	}
}
