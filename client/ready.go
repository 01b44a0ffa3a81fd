package client

import (
	"context"
	"time"
)

// DefaultReadyTimeout is how long WaitReady waits when its context has no deadline.
const DefaultReadyTimeout = 10 * time.Second

// readyAttemptTimeout bounds one attempt on a server that does not answer, so that the next attempt
// can reach another process that has taken over the address. Roster's own Health takes a second at
// most.
const readyAttemptTimeout = 2 * time.Second

// WaitReady waits until the server answers Health, up to ctx's deadline or DefaultReadyTimeout. It
// replaces gRPC's WithBlock, but is bounded and says what is wrong.
//
// It repeats Health while nothing listens, the host name does not resolve, no answer comes or the
// server answers UNAVAILABLE or DEADLINE_EXCEEDED: a server that is starting goes through these. It fails at once if
// waiting would not help: TLS on one side only, a certificate that is not trusted, a port that is
// not a gRPC server, a server without MyService, or any other error that Health returns.
//
// The error is an *Error with the diagnosis of the last attempt. If the time ran out, errors.Is
// finds context.DeadlineExceeded in it as well.
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
		// The attempt gets at most half of the time that is left, so that some remains for finding
		// out why there was no answer.
		patience := min(readyAttemptTimeout, time.Until(deadline)/2)
		callCtx, cancel := context.WithTimeout(ctx, patience)
		failure := c.attempt(ctx, callCtx, op, c.health)
		cancel()
		if failure == nil {
			return nil
		}
		failure = cutShort(ctx, failure, last)
		// A deadline that passed somewhere behind the server may be met next time.
		if failure.Reason.Lasts() && !failure.timedOut() {
			failure.count(n, start)
			return failure
		}
		if last != nil && patience < readyAttemptTimeout && failure.timedOut() {
			// The end of the wait cut this attempt short, so the one before it says more.
			failure = last
		}
		// The next attempt must not use the connection that gave no answer.
		c.transport.CloseIdleConnections()
		if err := sleep(ctx, backoff(n)); err != nil {
			failure.count(n, start)
			return interrupted(failure, err)
		}
		last = failure
	}
}
