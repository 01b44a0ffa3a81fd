package bridge

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What is wrong with an upstream is found out from what it sends, and said with what to do. grpc-go has only
// texts for some of it. TestTheTextsOfGRPC holds what is read here to its version.

var errNotRunning = errors.New("it does not answer: is it running at this address?")

// errNoReflection is what most people read first who put a plain Python server behind the bridge.
var errNoReflection = errors.New("the server has no reflection service, so its services are not known. " +
	"In Python: pip install grpcio-reflection; from grpc_reflection.v1alpha import reflection; and before server.start() " +
	"reflection.enable_server_reflection((\"PACKAGE.SERVICE\", reflection.SERVICE_NAME), server). Or leave it as it is, and give its schema: " +
	"--bridge-schema FILE, made by python -m grpc_tools.protoc -I. --include_imports --descriptor_set_out=FILE NAME.proto")

// aboutTLS says why a TLS handshake with an upstream failed.
func aboutTLS(err error) error {
	var noTLS tls.RecordHeaderError
	var untrusted *tls.CertificateVerificationError
	var remote *net.OpError
	switch {
	case errors.As(err, &noTLS):
		return fmt.Errorf("it does not speak TLS: use a URL that begins with http (%w)", err)
	case errors.As(err, &untrusted):
		return fmt.Errorf("its certificate is not accepted: --bridge-ca has the CA certificates to trust (%w)", err)
	case errors.As(err, &remote) && remote.Op == "remote error":
		return fmt.Errorf("it has refused the TLS connection: it may ask for a client certificate, which --bridge-cert and --bridge-key give, or speak HTTP/1.1 alone (%w)", err)
	}
	return fmt.Errorf("the TLS connection failed: it may speak no TLS, or HTTP/1.1 alone (%w)", err)
}

// aboutPreface says why what an upstream has sent first does not begin a connection of HTTP/2: these bytes,
// and then err, if that is not nil. With TLS it is refused only after the handshake if a certificate is
// missing (RFC 8446 §4.4.2).
func aboutPreface(sent []byte, secure bool, err error) error {
	switch {
	case bytes.HasPrefix(sent, []byte("HTTP/1.")):
		return errors.New("it answers in HTTP/1.1, and gRPC needs HTTP/2: only gRPC servers can be bridged")
	case len(sent) > 2 && sent[0] == 0x15 && sent[1] == 3: // an alert, RFC 8446 §5.1
		return errors.New("it speaks TLS: use a URL that begins with https")
	case secure && err != nil:
		return fmt.Errorf("it has ended the TLS connection: it may ask for a client certificate, which --bridge-cert and --bridge-key give, or speak HTTP/1.1 alone (%w)", err)
	case len(sent) == 0 && err != nil: // so does a server that stops just then
		return errors.New("it has closed the connection without a word: it is starting or stopping, or does not speak HTTP/2, which gRPC needs: it may speak HTTP/1.1 alone, or TLS, which needs a URL that begins with https")
	}
	return errors.New("it does not speak HTTP/2, which gRPC needs: it may speak HTTP/1.1 alone, or TLS, which needs a URL that begins with https")
}

// explain adds to an error of a call what it means where its text does not say it.
func explain(err error) error {
	if err != nil && isNoGRPC(err) {
		return fmt.Errorf("it speaks HTTP/2, but not gRPC, as a server of Connect alone does: only gRPC servers can be bridged (%s)", status.Convert(err).Message())
	}
	return err
}

// isNoGRPC reports whether an error of grpc-go is one of a server that speaks HTTP/2 and not gRPC.
func isNoGRPC(err error) bool {
	text := status.Convert(err).Message()
	return strings.Contains(text, "unexpected HTTP status code") || strings.Contains(text, "unexpected content-type") ||
		strings.Contains(text, "missing HTTP content-type")
}

var tooLong = regexp.MustCompile(`^grpc: (?:(?:received message|message after decompression) larger than max \(\d+ vs\. (\d+)\)|received message after decompression larger than max (\d+))$`)

// isReplyTooLong reports whether an error is that of grpc-go for a reply of more than limit bytes. A server
// on grpc-go says the same of a request, with a limit of its own.
func isReplyTooLong(st *status.Status, limit int) bool {
	found := tooLong.FindStringSubmatch(st.Message())
	return st.Code() == codes.ResourceExhausted && found != nil && found[1]+found[2] == strconv.Itoa(limit)
}

// endsInAMessage reports whether an error is that of grpc-go for a reply that ends with a part of a message.
func endsInAMessage(st *status.Status) bool {
	return st.Code() == codes.Internal && st.Message() == io.ErrUnexpectedEOF.Error()
}

// isOfConnection reports whether the text of an UNAVAILABLE is grpc-go's for a connection that was lost, or
// that there is none.
func isOfConnection(text string) bool {
	return slices.ContainsFunc(ofConnection, func(begin string) bool { return strings.HasPrefix(text, begin) })
}

var ofConnection = []string{
	"closing transport due to", "connection error: ", "error reading from server", "last connection error: ", "last resolver error: ",
	"name resolver error", "no children", "stream terminated by RST_STREAM", "the connection is draining", "transport is closing",
}
