package rpc

import (
	"fmt"
	"time"

	"connectrpc.com/connect"
)

// MaxMessageBytes is the maximum size of a message in either direction, compressed or not: the default
// of gRPC libraries. The policy of a method may set another one for its requests (Policy.MaxMessage).
const MaxMessageBytes = 4 << 20

// MaxPolicyMessageBytes is the largest maximum that the policy of a method may set.
const MaxPolicyMessageBytes = 256 << 20

// EnvelopeBytes is the size of the prefix of an enveloped message: one byte of flags, four of length.
const EnvelopeBytes = 5

// The error of a limit is RESOURCE_EXHAUSTED. Its text names the limit and the flag that sets it, or
// says that the limit is fixed.

// Overdue is the error of a call that took longer than the server allows.
func Overdue(limit time.Duration) *connect.Error {
	return connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf(
		"the answer was not ready in %v, the longest that this server lets a call take (--max-deadline)", limit))
}
