package service

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

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

// checkReply refuses a reply that is too long before it is compressed: its
// caller has the same bound after unpacking it, and would fail with less to go
// by. (Connect compares what it sends, compressed.)
func checkReply(size int) error {
	if size <= rpc.MaxMessageBytes {
		return nil
	}
	return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
		"the reply would have %d bytes, the limit is %d (fixed, no flag): ask for fewer ids", size, rpc.MaxMessageBytes))
}

// checkMessage is checkReply of a message that is yet to be encoded, for the
// call of ctx.
func checkMessage(ctx context.Context, reply proto.Message) error {
	size := proto.Size(reply)
	// JSON is longer, but not often needs to be looked at.
	if call := rpc.From(ctx); call != nil && size > rpc.MaxMessageBytes/4 && call.Codec == rpc.JSON {
		text, err := jsonCodec{}.Marshal(reply)
		if err != nil {
			return err
		}
		size = len(text)
	}
	return checkReply(size)
}

// messageLimit replaces Connect's error for a message of a stream that is too long by one that names
// the limit of the method.
type messageLimit struct{ policy rpc.Policy }

// WrapUnary implements connect.Interceptor. The request has been read by then.
func (messageLimit) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc { return next }

// WrapStreamingHandler implements connect.Interceptor.
func (l messageLimit) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return next(ctx, limitedConn{conn, l.policy})
	}
}

// WrapStreamingClient implements connect.Interceptor; servers have no clients.
func (messageLimit) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

type limitedConn struct {
	connect.StreamingHandlerConn
	policy rpc.Policy
}

// Receive implements connect.StreamingHandlerConn.
func (c limitedConn) Receive(message any) error {
	err := c.StreamingHandlerConn.Receive(message)
	if err != nil && connect.CodeOf(err) == connect.CodeResourceExhausted {
		return c.policy.TooLong()
	}
	return err
}

// maxQuoted is how much of a request an error quotes. What is wrong with a
// message may be as long as the message, and an error travels in a header.
const maxQuoted = 300

// shortened is err without the better part of a text that is too long.
func shortened(err error) error {
	if err == nil || len(err.Error()) <= maxQuoted {
		return err
	}
	return errors.New(cut(err.Error(), maxQuoted))
}
