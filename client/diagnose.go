package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"connectrpc.com/connect"
	"golang.org/x/net/http2"
)

// diagnose turns the error of one attempt into an *Error. It goes from the
// most certain evidence to the least: what the server said, the HTTP response,
// the types of the transport's errors, and, while ctx lasts, a probe of the
// port.
func (c *Client) diagnose(ctx context.Context, err error, seen facts) *Error {
	code := connect.CodeOf(err)
	switch {
	case connect.IsWireError(err):
		// Roster itself answers so on a port with TLS that is called without.
		if code == connect.CodeFailedPrecondition && c.probeTLS == nil && c.speaksTLS(ctx) {
			return &Error{Reason: ReasonServerUsesTLS, Err: err}
		}
		return &Error{Reason: answerReason(err), Err: err}
	case code == connect.CodeCanceled && errors.Is(ctx.Err(), context.Canceled):
		return &Error{Reason: ReasonCanceled, Err: err}
	case seen.status != 0:
		return c.diagnoseResponse(err, seen)
	}

	// What is left when neither the error's type nor a probe tells more.
	reason := ReasonNoAnswer
	switch {
	case code != connect.CodeDeadlineExceeded || seen.callErr == nil:
		err = recode(err, seen.err)
		var certain bool
		if reason, certain = transportReason(seen.err); certain {
			if isStreamReset(seen.err) && c.answersOnlyGRPC(ctx) {
				return &Error{Reason: ReasonWrongProtocol, Err: err, detail: c.mismatch("grpc")}
			}
			return &Error{Reason: reason, Err: err}
		}
	case !seen.connected:
		reason = ReasonUnreachable
	}
	found, ok := c.probe(ctx)
	timedOut := reason == ReasonNoAnswer || reason == ReasonUnreachable
	if ok && (timedOut || found.reason == reason || !found.weak()) {
		return &Error{Reason: found.reason, Err: err, detail: found.detail}
	}
	return &Error{Reason: reason, Err: err}
}

// answerReason is the diagnosis of an error that the server sent.
func answerReason(err error) Reason {
	switch connect.CodeOf(err) {
	case connect.CodeUnavailable:
		return ReasonUnavailable
	case connect.CodeUnimplemented:
		return ReasonNoService
	case connect.CodeUnauthenticated:
		return ReasonUnauthenticated
	case connect.CodePermissionDenied:
		return ReasonPermissionDenied
	case connect.CodeDeadlineExceeded:
		return ReasonNoAnswer
	}
	if isUnserializable(err) {
		return ReasonBadReply
	}
	return ReasonServerError
}

// isUnserializable reports whether a grpcio servicer returned None or a value
// of another type than its method's reply. The server's text is all that tells
// it from other errors: grpc.server has one of its own, with INTERNAL, and
// grpc.aio passes on what protobuf's SerializeToString raised, with UNKNOWN.
func isUnserializable(err error) bool {
	var rpc *connect.Error
	if !errors.As(err, &rpc) {
		return false
	}
	switch rpc.Code() {
	case connect.CodeInternal:
		return strings.HasPrefix(rpc.Message(), "Failed to serialize response")
	case connect.CodeUnknown:
		return strings.Contains(rpc.Message(), "'SerializeToString'")
	default:
		return false
	}
}

// diagnoseResponse is for an HTTP response that was not the answer of an RPC,
// or broke off.
func (c *Client) diagnoseResponse(err error, seen facts) *Error {
	status := fmt.Sprintf("HTTP %d", seen.status)
	if seen.contentType != "" {
		status += " " + seen.contentType
	}
	code := connect.CodeOf(err)
	speaks, known := protocolOf(seen.contentType)
	switch {
	case seen.callErr != nil && code == connect.CodeDeadlineExceeded:
		return &Error{Reason: ReasonNoAnswer, Err: err}
	case seen.status == 200 && code == connect.CodeResourceExhausted:
		return &Error{Reason: ReasonReplyTooLarge, Err: err}
	case seen.status == 200 && seen.err != nil:
		reason := ReasonConnectionLost
		if isStreamReset(seen.err) {
			reason = ReasonServerError
		}
		return &Error{Reason: reason, Err: recode(err, seen.err)}
	case known && speaks != c.protocol:
		return &Error{Reason: ReasonWrongProtocol, Err: err, detail: c.mismatch(speaks.String())}
	case code == connect.CodeUnavailable:
		return &Error{Reason: ReasonUnavailable, Err: err, detail: status}
	case seen.status == 200 && c.json && !strings.Contains(seen.contentType, "json") && known:
		return &Error{Reason: ReasonWrongProtocol, Err: err, detail: c.mismatch(seen.contentType)}
	case seen.status == 200 && known:
		// The right protocol, and yet no answer that can be read.
		return &Error{Reason: ReasonServerError, Err: err}
	default:
		return &Error{Reason: ReasonNotRPC, Err: err, detail: status}
	}
}

// mismatch says what was spoken and what came back.
func (c *Client) mismatch(answer string) string {
	asked := c.protocol.String()
	if c.json {
		asked += " with JSON"
	}
	return fmt.Sprintf("asked in %s, it answered in %s", asked, answer)
}

// protocolOf is the protocol whose responses have this content type.
func protocolOf(contentType string) (Protocol, bool) {
	contentType, _, _ = strings.Cut(contentType, ";")
	switch strings.TrimSpace(contentType) {
	case "application/grpc", "application/grpc+proto", "application/grpc+json":
		return GRPC, true
	case "application/grpc-web", "application/grpc-web+proto", "application/grpc-web+json":
		return GRPCWeb, true
	case "application/proto":
		// Connect's JSON is any API's application/json, so that tells nothing.
		return Connect, true
	default:
		return 0, false
	}
}

// transportReason is the diagnosis of a transport's error by its type. It is
// not certain where the type leaves something to be found out.
func transportReason(err error) (reason Reason, certain bool) {
	var (
		stream      http2.StreamError
		name        *net.DNSError
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		network     *net.OpError
	)
	switch {
	case errors.As(err, &stream):
		if stream.Code == http2.ErrCodeHTTP11Required {
			return ReasonNotHTTP2, true
		}
		return ReasonServerError, true
	case errors.As(err, &name):
		return ReasonNameUnknown, true
	case errors.Is(err, syscall.ECONNREFUSED):
		return ReasonNothingListens, true
	case errors.Is(err, errNoHTTP2):
		return ReasonNotHTTP2, true
	case errors.As(err, &certificate):
		return ReasonCertificate, true
	case errors.As(err, &record):
		return ReasonServerUsesPlain, true
	case errors.As(err, &network) && network.Op == opTLSAlert:
		// Which alert it was has no exported type; that a server has no HTTP/2
		// to agree to is one of them.
		return ReasonTLSRefused, false
	case errors.As(err, &network) && network.Op == "dial" && !errors.Is(err, syscall.ECONNRESET):
		return ReasonUnreachable, true
	default:
		return ReasonConnectionLost, false
	}
}

// opTLSAlert is the Op of the *net.OpError in which crypto/tls reports an
// alert from the peer.
const opTLSAlert = "remote error"

// recode gives a broken connection the code UNAVAILABLE, as gRPC does. Connect
// has CANCELED for a connection reset, DEADLINE_EXCEEDED for a dial that timed
// out by itself, and UNKNOWN or INTERNAL for a reply that broke off. A stream
// that the server reset keeps its code.
func recode(err, cause error) error {
	if connect.CodeOf(err) == connect.CodeUnavailable || cause == nil || isStreamReset(cause) {
		return err
	}
	return connect.NewError(connect.CodeUnavailable, cause)
}

func isStreamReset(err error) bool {
	var stream http2.StreamError
	return errors.As(err, &stream)
}
