package rpc

import (
	"fmt"
	"time"

	"connectrpc.com/connect"
)

// MaxMessageBytes bounds a message in either direction, before and after compression. It is gRPC's
// own default.
const MaxMessageBytes = 4 << 20

// EnvelopeBytes is what an enveloped message has before it: a byte of flags and four of length.
const EnvelopeBytes = 5

// Every limit that a caller meets is RESOURCE_EXHAUSTED. The text names the limit and the flag that
// sets it, or says that there is none.

// TooLong is the error of a message over MaxMessageBytes.
func TooLong() *connect.Error {
	return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
		"a message is longer than %d bytes, before or after compression (a fixed limit, no flag): split it over several calls", MaxMessageBytes))
}

// Overdue is the error of a call that took as long as the server allows.
func Overdue(limit time.Duration) *connect.Error {
	return connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf(
		"the answer was not ready in %v, the longest that this server lets a call take (--max-deadline)", limit))
}
