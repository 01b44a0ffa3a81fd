package client

import (
	"context"
	"time"
)

// DefaultReadyTimeout is how long WaitReady waits when its context has no
// deadline.
const DefaultReadyTimeout = 10 * time.Second

// readyAttemptTimeout bounds one question to a server that says nothing, so
// that its successor on the same address is found. Roster's own Health takes a
// second at most.
const readyAttemptTimeout = 2 * time.Second

// WaitReady waits until the server answers Health, up to ctx's deadline or
// DefaultReadyTimeout. It is what gRPC's WithBlock was for, with an end and an
// explanation.
//
// It keeps asking while nothing listens, the host's name does not resolve, no
// answer comes or the server says UNAVAILABLE: a server that starts goes
// through these. It gives up at once on what waiting does not mend: TLS on one
// side only, a certificate that is not trusted, a port that is not a gRPC
// server, a server without MyService, or any other error that Health answers.
//
// The error is an *Error with the diagnosis of the last attempt. When time ran
// out it is context.DeadlineExceeded as well, for errors.Is.
func (c *Client) WaitReady(ctx context.Context) error {
	const op = "WaitReady"
	deadline, hasDeadline := ctx.Deadline()
	if !hasDeadline {
		deadline = time.Now().Add(DefaultReadyTimeout)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}

	start := time.Now()
	var last *Error
	for n := 1; ; n++ {
		// No more than half of the time left is for the question, so that some
		// is left to find out why there was no answer.
		patience := min(readyAttemptTimeout, time.Until(deadline)/2)
		callCtx, cancel := context.WithTimeout(ctx, patience)
		failure := c.attempt(ctx, callCtx, op, c.health)
		cancel()
		if failure == nil {
			return nil
		}
		failure = cutShort(ctx, failure, last)
		if failure.Reason.lasts() {
			failure.count(n, start)
			return failure
		}
		if last != nil && patience < readyAttemptTimeout && failure.timedOut() {
			// Cut short by the end of the wait, this attempt says less than
			// the one before.
			failure = last
		}
		// A connection that gave no answer must not be asked again.
		c.transport.CloseIdleConnections()
		if err := sleep(ctx, backoff(n)); err != nil {
			failure.count(n, start)
			return interrupted(failure, err)
		}
		last = failure
	}
}
