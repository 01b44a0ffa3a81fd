// Package diagnose finds out why a call failed: nothing listens, TLS on one side only, another
// protocol, a certificate that is not trusted, and so on. It uses the most certain evidence that
// there is: what the server answered, then the HTTP response, then the types of the transport's
// errors, and last a probe, which opens a connection of its own to see what the port answers.
//
//	explainer := diagnose.New(diagnose.Config{Base: base, Protocol: "grpc", Transport: transport})
//	attempt := diagnose.Observe(ctx)
//	err := call(attempt) // the transport records into diagnose.ObservationOf(attempt)
//	if err != nil {
//		d := explainer.Explain(ctx, attempt, err)
//		fmt.Println(d.Reason, d.Detail, d.Reason.Advice())
//	}
//
// It neither repeats calls nor formats errors; package client does.
package diagnose

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"connectrpc.com/connect"
	"golang.org/x/net/http2"
	"golang.org/x/sync/singleflight"
)

// The protocols of Config.Protocol.
const (
	GRPC    = "grpc"
	GRPCWeb = "grpcweb"
	Connect = "connect"
)

// ErrNoHTTP2 is how the transport's TLS configuration must fail a handshake in which the server did
// not choose HTTP/2.
var ErrNoHTTP2 = errors.New("the server did not agree to HTTP/2 in the TLS handshake (ALPN)")

// Config says how the calls are made that are to be explained.
type Config struct {
	// Base is the server's address: scheme http or https, host, optional port and path.
	Base *url.URL
	// Socket is the path of the Unix socket that is called instead of Base's host; empty for TCP.
	Socket string
	// Protocol is GRPC, GRPCWeb or Connect.
	Protocol string
	// JSON says that messages are JSON and not binary.
	JSON bool
	// TLS is the caller's configuration for an https address; nil is the default one.
	TLS *tls.Config
	// Transport makes the calls. Its Proxy tells whether a probe would reach the same server.
	Transport *http.Transport
}

// Explainer explains the failed calls to one server. It is safe for concurrent use.
type Explainer struct {
	config Config
	tls    *tls.Config // of probes; nil for http
	probes singleflight.Group
}

// New returns the Explainer of the server that config names. It does not connect.
func New(config Config) *Explainer {
	e := &Explainer{config: config}
	if config.Base.Scheme == "https" {
		e.tls = probeTLS(config.TLS)
	}
	return e
}

// Diagnosis is what was wrong with one attempt.
type Diagnosis struct {
	Reason Reason
	// Detail is what was seen, such as "HTTP 404 text/plain"; often empty.
	Detail string
	// Err is the attempt's error, with the code UNAVAILABLE if the connection broke.
	Err error
}

// Explain finds out why an attempt failed with err. The attempt's context is from Observe; ctx,
// which may last longer, bounds the diagnosis.
func (e *Explainer) Explain(ctx, attempt context.Context, err error) Diagnosis {
	seen := factsOf(attempt)
	answered := connect.IsWireError(err)
	if !answered && seen.told != nil && seen.err != nil {
		// The server said what is wrong, but did not end the stream with it, and then the stream broke.
		// What it said is the answer.
		err, answered = seen.told, true
	}
	code := connect.CodeOf(err)
	switch {
	case answered:
		// Roster answers with this code if its port has TLS and the call came without.
		if code == connect.CodeFailedPrecondition && e.tls == nil && e.speaksTLS(ctx) {
			return Diagnosis{Reason: ServerUsesTLS, Err: err}
		}
		return Diagnosis{Reason: reasonOfAnswer(err, seen), Err: err}
	case endedByDeadline(seen):
		return Diagnosis{Reason: NoAnswer, Err: connect.NewError(connect.CodeDeadlineExceeded, seen.err)}
	case code == connect.CodeCanceled && errors.Is(ctx.Err(), context.Canceled):
		return Diagnosis{Reason: Canceled, Err: err}
	case seen.status != 0:
		return e.explainResponse(ctx, err, seen)
	}

	// The reason that remains if neither the error's type nor a probe tells more.
	reason := NoAnswer
	switch {
	case code != connect.CodeDeadlineExceeded || seen.ctxErr == nil:
		err = recode(err, seen.err)
		var certain bool
		if reason, certain = reasonOfTransport(seen.err); certain {
			if isStreamReset(seen.err) && e.answersOnlyGRPC(ctx) {
				return Diagnosis{WrongProtocol, e.mismatch(GRPC), err}
			}
			return Diagnosis{Reason: reason, Err: err}
		}
	case !seen.connected:
		reason = Unreachable
	}
	found, ok := e.probe(ctx)
	timedOut := reason == NoAnswer || reason == Unreachable
	if ok && (timedOut || found.reason == reason || !found.weak()) {
		return Diagnosis{found.reason, found.detail, err}
	}
	return Diagnosis{Reason: reason, Err: err}
}

// endedByDeadline reports whether the server reset the stream because the deadline had passed, as
// grpc-go does instead of answering. There is no error code for that (RFC 9113 §7), so the time
// tells, unless the code says something else.
func endedByDeadline(seen facts) bool {
	var reset http2.StreamError
	if !seen.atDeadline || !errors.As(seen.err, &reset) {
		return false
	}
	switch reset.Code {
	case http2.ErrCodeCancel, http2.ErrCodeNo, http2.ErrCodeInternal, http2.ErrCodeStreamClosed:
		return true
	}
	return false
}

// reasonOfAnswer is the reason behind an error that the server sent.
func reasonOfAnswer(err error, seen facts) Reason {
	switch connect.CodeOf(err) {
	case connect.CodeUnavailable:
		return Unavailable
	case connect.CodeUnimplemented:
		return NoService
	case connect.CodeUnauthenticated:
		return Unauthenticated
	case connect.CodePermissionDenied:
		return PermissionDenied
	case connect.CodeDeadlineExceeded:
		if seen.atDeadline {
			return NoAnswer
		}
		// A deadline of the server's own, for something that it waited for.
		return ServerError
	}
	if isUnserializable(err) {
		return BadReply
	}
	return ServerError
}

// isUnserializable reports whether a grpcio servicer returned None, or a value that is not of the
// method's reply type. Only the server's text distinguishes this from other errors: grpc.server has
// a text of its own, with INTERNAL; grpc.aio passes on what protobuf's SerializeToString raised,
// with UNKNOWN.
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

// explainResponse explains an HTTP response that broke off, or was not the answer to an RPC.
func (e *Explainer) explainResponse(ctx context.Context, err error, seen facts) Diagnosis {
	status := fmt.Sprintf("HTTP %d", seen.status)
	if seen.contentType != "" {
		status += " " + seen.contentType
	}
	code := connect.CodeOf(err)
	answered := protocolOf(seen.contentType)
	switch {
	case seen.ctxErr != nil && code == connect.CodeDeadlineExceeded:
		return Diagnosis{Reason: NoAnswer, Err: err}
	case seen.status == 200 && code == connect.CodeResourceExhausted:
		return Diagnosis{Reason: ReplyTooLarge, Err: err}
	case seen.status == 200 && seen.err != nil:
		reason := ConnectionLost
		if isStreamReset(seen.err) {
			reason = ServerError
		}
		return Diagnosis{Reason: reason, Err: recode(err, seen.err)}
	case answered != "" && answered != e.config.Protocol:
		return Diagnosis{WrongProtocol, e.mismatch(answered), err}
	case seen.status == http.StatusUnsupportedMediaType && e.answersOnlyGRPC(ctx):
		return Diagnosis{WrongProtocol, e.mismatch(status) + ", and it speaks grpc", err}
	case code == connect.CodeUnavailable:
		return Diagnosis{Unavailable, status, err}
	case seen.status == 200 && e.config.JSON && !strings.Contains(seen.contentType, "json") && answered != "":
		return Diagnosis{WrongProtocol, e.mismatch(seen.contentType), err}
	case seen.status == 200 && answered != "":
		// The right protocol, but not an answer that can be read.
		return Diagnosis{Reason: ServerError, Err: err}
	default:
		return Diagnosis{NotRPC, status, err}
	}
}

// mismatch names the protocol that was used and what the server answered in.
func (e *Explainer) mismatch(answer string) string {
	asked := e.config.Protocol
	if e.config.JSON {
		asked += " with JSON"
	}
	return fmt.Sprintf("asked in %s, it answered in %s", asked, answer)
}

// protocolOf is the protocol whose responses have this content type, "" if that cannot be told.
func protocolOf(contentType string) string {
	contentType, _, _ = strings.Cut(contentType, ";")
	switch strings.TrimSpace(contentType) {
	case "application/grpc", "application/grpc+proto", "application/grpc+json":
		return GRPC
	case "application/grpc-web", "application/grpc-web+proto", "application/grpc-web+json":
		return GRPCWeb
	case "application/proto":
		// Connect's JSON is application/json, as any API's is, which tells nothing.
		return Connect
	default:
		return ""
	}
}

// reasonOfTransport is the reason behind a transport's error, by the error's type. It is not
// certain if the type allows for several.
func reasonOfTransport(err error) (reason Reason, certain bool) {
	var (
		stream      http2.StreamError
		name        *net.DNSError
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		network     *net.OpError
	)
	switch {
	case errors.As(err, &stream):
		switch stream.Code {
		case http2.ErrCodeHTTP11Required:
			return NotHTTP2, true
		case http2.ErrCodeRefusedStream: // it did nothing for the call (RFC 9113 §8.7)
			return Unavailable, true
		}
		return ServerError, true
	case errors.As(err, &name):
		return NameUnknown, true
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT): // no Unix socket of that name
		return NothingListens, true
	case errors.Is(err, ErrNoHTTP2):
		return NotHTTP2, true
	case errors.As(err, &certificate):
		return Certificate, true
	case errors.As(err, &record):
		return ServerUsesPlain, true
	case errors.As(err, &network) && network.Op == opTLSAlert:
		// Which alert it was has no exported type; one of them says that the server offers no
		// HTTP/2.
		return TLSRefused, false
	case errors.As(err, &network) && network.Op == "dial" && !errors.Is(err, syscall.ECONNRESET):
		return Unreachable, true
	default:
		return ConnectionLost, false
	}
}

// opTLSAlert is the Op of the *net.OpError in which crypto/tls reports an alert from the peer.
const opTLSAlert = "remote error"

// recode gives a broken connection the code UNAVAILABLE, as gRPC does. Connect has CANCELED for a
// connection reset, DEADLINE_EXCEEDED for a dial that timed out by itself, and UNKNOWN or INTERNAL
// for a reply that broke off. A stream that the server reset keeps its code.
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
