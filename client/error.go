package client

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/internal/printable"
)

// Error is the error of every failed call of a Client: what was tried, on which server, and what
// was wrong. It unwraps to the *connect.Error of the last attempt, so connect.CodeOf,
// errors.Is(err, context.Canceled) and the like work on it.
type Error struct {
	// Op is the call that failed: User, Health, WaitReady, or the name of one of roster.v1.
	Op string
	// Address is the server's URL, or its Unix socket as it was given to New.
	Address string
	// Reason is the diagnosis.
	Reason Reason
	// Attempts is how often the call was tried.
	Attempts int
	// Elapsed is the time from the first attempt to the failure.
	Elapsed time.Duration
	// Err is the last attempt's error.
	Err error

	// detail is what the diagnosis saw, such as "HTTP 404 text/plain".
	detail string
}

// Error says what was tried, on which server, why it failed and what to do. In what the server said,
// control characters are escaped, so that the text may be printed on a terminal.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s at %s: %s", e.Op, e.Address, e.Reason)
	if e.detail != "" {
		fmt.Fprintf(&b, " (%s)", printable.Line(e.detail))
	}
	if advice := e.advice(); advice != "" {
		b.WriteString("; " + advice)
	}
	fmt.Fprintf(&b, " [%s", strings.ToUpper(connect.CodeOf(e.Err).String()))
	if cause := e.cause(); cause != "" {
		b.WriteString(": " + printable.Line(cause+e.violations(cause)))
	}
	switch {
	case e.Attempts > 1:
		fmt.Fprintf(&b, ", %d attempts in %s", e.Attempts, roundTime(e.Elapsed))
	case e.timedOut() && e.Reason != ReasonServerError:
		fmt.Fprintf(&b, " after %s", roundTime(e.Elapsed))
	}
	b.WriteString("]")
	return b.String()
}

// advice says what to do about the failure.
func (e *Error) advice() string {
	if wait := e.RetryAfter(); wait > 0 {
		return "try again in " + roundTime(wait).String()
	}
	invalid := x509.CertificateInvalidError{}
	if e.Reason == ReasonCertificate && errors.As(e.Err, &invalid) && invalid.Reason == x509.Expired {
		return "renew it on the server, or correct this machine's clock, which says " + time.Now().UTC().Format("2006-01-02 15:04 MST")
	}
	return e.Reason.Advice()
}

// Unwrap gives the last attempt's error.
func (e *Error) Unwrap() error { return e.Err }

// count records the number of attempts made since start.
func (e *Error) count(attempts int, start time.Time) {
	e.Attempts = attempts
	e.Elapsed = time.Since(start)
}

// timedOut reports whether the attempt ended because its deadline passed.
func (e *Error) timedOut() bool {
	return connect.CodeOf(e.Err) == connect.CodeDeadlineExceeded
}

// cause is the text of the underlying error, without what Error says already. It is empty if that
// text would only distract, such as the HTTP/2 library's error about bytes of another protocol.
func (e *Error) cause() string {
	switch {
	case e.detail != "", e.Reason == ReasonServerUsesTLS, e.Reason == ReasonServerUsesPlain:
		return ""
	case e.timedOut() && errors.Is(e.Err, context.DeadlineExceeded):
		return ""
	}
	if dial := (*net.OpError)(nil); errors.As(e.Err, &dial) && dial.Op == "dial" {
		return dial.Error()
	}
	if rpc := (*connect.Error)(nil); errors.As(e.Err, &rpc) {
		return rpc.Message()
	}
	return e.Err.Error()
}

// roundTime rounds to about three digits.
func roundTime(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second / 10)
	case d >= time.Second:
		return d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		return d.Round(time.Millisecond)
	default:
		return d.Round(time.Microsecond)
	}
}

// expired is the error of a wait that ran out of time: errors.Is finds both the last attempt's
// error and the context's in it.
type expired struct {
	last error
	ctx  error
}

func (e *expired) Error() string   { return e.last.Error() }
func (e *expired) Unwrap() []error { return []error{e.last, e.ctx} }
