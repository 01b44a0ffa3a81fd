package diagnose

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"syscall"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/net/http2"
)

// The answer to the start of an HTTP/2 connection shows which protocol a port serves.
func TestTheFirstBytesTellTheProtocol(t *testing.T) {
	alert := &net.OpError{Op: opTLSAlert, Err: errors.New("tls: certificate required")}
	reset := &net.OpError{Op: "read", Err: syscall.ECONNRESET}
	for _, test := range []struct {
		name  string
		first string
		err   error
		want  answerKind
	}{
		{"SETTINGS", "\x00\x00\x12\x04\x00\x00\x00\x00\x00", nil, answerHTTP2},
		{"HTTP/1.1", "HTTP/1.1 400 Bad Request\r\n", nil, answerHTTP1},
		{"a TLS alert in bytes", "\x15\x03\x01\x00\x02\x02\x46", io.ErrUnexpectedEOF, answerTLS},
		{"a TLS alert as crypto/tls reports it", "", alert, answerTLS},
		{"SSH", "SSH-2.0-OpenSSH_9.2\r\n", nil, answerOther},
		{"another HTTP/2 frame", "\x00\x00\x12\x06\x00\x00\x00\x00\x00", nil, answerOther},
		{"a close", "", io.EOF, answerHungUp},
		{"a reset", "", reset, answerHungUp},
		{"silence", "", os.ErrDeadlineExceeded, answerNothing},
	} {
		if got := classify([]byte(test.first), test.err); got.kind != test.want {
			t.Errorf("%s: kind %d, want %d", test.name, got.kind, test.want)
		}
	}
}

func TestARefusedStreamMayBeCalledAgain(t *testing.T) {
	reason, certain := reasonOfTransport(http2.StreamError{Code: http2.ErrCodeRefusedStream})
	if reason != Unavailable || !certain || reason.Lasts() {
		t.Errorf("%v", reason)
	}
}

// The recorded response is evidence, even if connect's error says little.
func TestAnObservationIsWhatTheTransportRecorded(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	explainer := New(Config{Base: base, Protocol: GRPC, Transport: &http.Transport{}})
	attempt := Observe(t.Context())
	ObservationOf(attempt).Responded(&http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/proto"}}})
	found := explainer.Explain(t.Context(), attempt, connect.NewError(connect.CodeUnknown, errors.New("?")))
	if found.Reason != WrongProtocol || found.Detail != "asked in grpc, it answered in connect" {
		t.Errorf("%v (%s), want the wrong protocol", found.Reason, found.Detail)
	}
	// Nothing was recorded of this attempt, so the port is probed: it answers in HTTP/1.1.
	found = explainer.Explain(t.Context(), Observe(t.Context()), connect.NewError(connect.CodeUnavailable, io.EOF))
	if found.Reason != NotHTTP2 {
		t.Errorf("%v (%s), want a server without HTTP/2", found.Reason, found.Detail)
	}
	ObservationOf(t.Context()).Failed(io.EOF) // of a call that nobody observes: it must not panic
}

func TestTheAddressOfAProbe(t *testing.T) {
	for address, want := range map[string]string{
		"http://a": "a:80", "https://a": "a:443", "http://[::1]:50051/x": "[::1]:50051",
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := hostPort(u); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

// A probe offers HTTP/1.1 too, and leaves the caller's configuration as it is.
func TestAProbeCopiesTheTLSConfiguration(t *testing.T) {
	config := &tls.Config{ServerName: "a", NextProtos: []string{"h2"}}
	probed := probeTLS(config)
	if len(probed.NextProtos) != 2 || probed.ServerName != "a" || len(config.NextProtos) != 1 {
		t.Errorf("the probe offers %q as %q; the caller's configuration %q", probed.NextProtos, probed.ServerName, config.NextProtos)
	}
}

// Every reason has a text of its own.
func TestEveryReasonSaysSomething(t *testing.T) {
	said := make(map[string]Reason)
	for r := ServerError; r <= PermissionDenied; r++ {
		if other, taken := said[r.String()]; taken || r.String() == Reason(-1).String() {
			t.Errorf("reason %d says %q, as %d does", r, r, other)
		}
		said[r.String()] = r
	}
}
