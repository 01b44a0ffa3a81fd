package service

import (
	"context"
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"

	"example.com/roster/server/rpc"
)

// checkBatch refuses more ids than one call may have.
func checkBatch(ids, limit int) error {
	if ids <= limit {
		return nil
	}
	return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
		"%d ids in one call, this server takes at most %d (--max-batch): split them over several calls", ids, limit))
}

// checkReply refuses a reply that is too long, by its size before compression: a client has the
// same limit after decompression, and its error would not say what to do. Connect itself checks the
// compressed size.
//
// It waits until the port has memory for the reply.
func checkReply(ctx context.Context, size int) error {
	if size <= rpc.MaxMessageBytes {
		if c := rpc.From(ctx); c != nil && c.Reply != nil {
			if err := c.Reply.Hold(size); err != nil {
				return err
			}
		}
		return nil
	}
	return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
		"the reply would have %d bytes, the limit is %d (fixed, no flag): ask for fewer ids", size, rpc.MaxMessageBytes))
}

// messageLimit replaces Connect's error for a message of a stream that is too long by one that names
// the limit of the method, and notes in the record of the call that one could not be read. Without a
// policy it does the second alone, for handlers that have a limit of their own.
type messageLimit struct{ policy *rpc.Policy }

// WrapUnary implements connect.Interceptor. The request has been read by then.
func (messageLimit) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc { return next }

// WrapStreamingHandler implements connect.Interceptor.
func (l messageLimit) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return next(ctx, limitedConn{conn, l.policy, rpc.From(ctx)})
	}
}

// WrapStreamingClient implements connect.Interceptor; servers have no clients.
func (messageLimit) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

type limitedConn struct {
	connect.StreamingHandlerConn
	policy *rpc.Policy
	call   *rpc.Call // nil without a port
}

// Receive implements connect.StreamingHandlerConn.
func (c limitedConn) Receive(message any) error {
	err := c.StreamingHandlerConn.Receive(message)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	switch connect.CodeOf(err) {
	case connect.CodeResourceExhausted:
		if c.policy != nil {
			return c.policy.TooLong()
		}
	case connect.CodeInvalidArgument, connect.CodeInternal, connect.CodeUnknown:
		if c.call != nil {
			c.call.Malformed = true
		}
	}
	return err
}

// maxQuoted is how much of a request an error quotes. What is wrong with a message may be as long
// as the message, and an error travels in a header.
const maxQuoted = 300

// shortened returns err, with its text cut if it is too long.
func shortened(err error) error {
	if err == nil || len(err.Error()) <= maxQuoted {
		return err
	}
	return errors.New(cut(err.Error(), maxQuoted))
}
