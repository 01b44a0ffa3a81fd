package service

import (
	"errors"
	"fmt"

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

// limitedConn gives what Connect says of a message that is too long in a stream
// our words.
type limitedConn struct{ connect.StreamingHandlerConn }

// Receive implements connect.StreamingHandlerConn.
func (c limitedConn) Receive(message any) error {
	err := c.StreamingHandlerConn.Receive(message)
	if err != nil && connect.CodeOf(err) == connect.CodeResourceExhausted {
		return rpc.TooLong()
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
