package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/client/internal/diagnose"
)

const (
	// firstBackoff is the longest pause before the second attempt. Each further pause may be twice
	// as long, up to maxBackoff.
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = time.Second
	// maxAttempts bounds a look-up that has no deadline, and maxWait the pause that such a look-up
	// makes because the server asked for it.
	maxAttempts = 5
	maxWait     = 10 * time.Second
)

// attempt makes one call and diagnoses its failure. callCtx bounds the call; ctx, which may last
// longer, bounds the diagnosis.
func (c *Client) attempt(ctx, callCtx context.Context, op string, call func(context.Context) error) *Error {
	start := time.Now()
	refused := func(reason Reason, code connect.Code, cause error) *Error {
		return &Error{Op: op, Address: c.target.name, Reason: reason, Err: connect.NewError(code, cause)}
	}
	switch err := callCtx.Err(); {
	case c.closed.Load():
		return refused(ReasonCanceled, connect.CodeCanceled, errClosed)
	case errors.Is(err, context.DeadlineExceeded):
		return refused(ReasonUnreachable, connect.CodeDeadlineExceeded, err)
	case err != nil:
		return refused(ReasonCanceled, connect.CodeCanceled, err)
	}
	attempt := diagnose.Observe(callCtx)
	err := call(attempt)
	if c.closed.Load() {
		// Close was called during the call and could not close this connection.
		c.transport.CloseIdleConnections()
	}
	if err == nil {
		return nil
	}
	found := c.explainer.Explain(ctx, attempt, err)
	failure := &Error{Op: op, Address: c.target.name, Reason: found.Reason, Err: found.Err, detail: found.Detail}
	failure.count(1, start)
	return failure
}

// retry makes call until it succeeds, fails in a way that another attempt would not change, or the
// time is up.
func (c *Client) retry(ctx context.Context, op string, call func(context.Context) error) error {
	start := time.Now()
	deadline, hasDeadline := ctx.Deadline()
	var last *Error
	for n := 1; ; n++ {
		failure := c.attempt(ctx, ctx, op, call)
		if failure == nil {
			return nil
		}
		failure = cutShort(ctx, failure, last)
		failure.count(n, start)
		if connect.CodeOf(failure) != connect.CodeUnavailable || failure.Reason.Lasts() {
			return failure
		}
		asked := failure.RetryAfter()
		pause := asked + backoff(n)
		if hasDeadline && time.Until(deadline) <= pause {
			// There is no time for another attempt. This failure says more than that the deadline
			// passed.
			return failure
		}
		if !hasDeadline && (n == maxAttempts || asked > maxWait) {
			return failure
		}
		if err := sleep(ctx, pause); err != nil {
			return interrupted(failure, err)
		}
		last = failure
	}
}

// cutShort returns failure, unless the end of ctx cut that attempt short and the attempt before it,
// if there was one, says more about what was wrong.
func cutShort(ctx context.Context, failure, last *Error) *Error {
	err := ctx.Err()
	if err == nil || last == nil {
		return failure
	}
	switch {
	case failure.Reason == ReasonCanceled, failure.Reason == ReasonUnreachable:
		return interrupted(last, err)
	case failure.timedOut():
		failure.detail = "before: " + last.Reason.String()
	}
	return failure
}

// backoff is how long to pause after the nth attempt: exponential, with random jitter over half of
// the pause, so that the callers of a server that restarts do not all return at the same moment.
func backoff(n int) time.Duration {
	d := maxBackoff
	// From 2^5 on the product is beyond maxBackoff, and later overflows.
	if n <= 5 {
		d = min(firstBackoff<<(n-1), maxBackoff)
	}
	return d/2 + rand.N(d/2)
}

// sleep pauses, or returns ctx's error as soon as it is done.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// interrupted changes failure to say that the context ended the pause after it, or the next
// attempt.
func interrupted(failure *Error, ctxErr error) *Error {
	if errors.Is(ctxErr, context.Canceled) {
		failure.detail = "while waiting to try again after: " + failure.Reason.String()
		failure.Reason = ReasonCanceled
		failure.Err = connect.NewError(connect.CodeCanceled, ctxErr)
		return failure
	}
	failure.Err = &expired{last: failure.Err, ctx: ctxErr}
	return failure
}
