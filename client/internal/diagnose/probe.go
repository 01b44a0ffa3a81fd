package diagnose

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"example.com/roster/gen/go/apipb/apipbconnect"
)

// probeTimeout bounds a probe, which may open several connections one after another.
const probeTimeout = 2 * time.Second

// finding is what a probe found out.
type finding struct {
	reason Reason
	detail string
}

// weak reports whether the probe got no answer, which may be due to a busy server or a busy client:
// such a finding confirms the same diagnosis but refutes no other.
func (f finding) weak() bool {
	return f.reason == NoAnswer || f.reason == ConnectionLost || f.reason == Unreachable
}

// probe opens a connection as an HTTP/2 client does and looks at the first bytes that the server
// sends. ok is false if that explains nothing or could not be done. Calls that fail at the same
// time share one probe, so that a server in trouble does not get more to do.
func (e *Explainer) probe(ctx context.Context) (found finding, ok bool) {
	if ctx.Err() != nil || e.proxied() {
		return finding{}, false
	}
	result := e.probes.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
		defer cancel()
		found, ok := e.examine(ctx)
		if !ok {
			return nil, errNoFinding
		}
		return found, nil
	})
	select {
	case r := <-result:
		found, ok = r.Val.(finding)
		return found, ok
	case <-ctx.Done():
		return finding{}, false
	}
}

var errNoFinding = errors.New("the probe explains nothing")

// proxied reports whether calls go through a proxy. A probe would then say nothing about them,
// since it connects to the server directly.
func (e *Explainer) proxied() bool {
	if e.config.Transport.Proxy == nil {
		return false
	}
	proxy, err := e.config.Transport.Proxy(&http.Request{URL: e.config.Base})
	return proxy != nil || err != nil
}

// answersOnlyGRPC reports whether a server that does not understand a call of another protocol, or in
// JSON, answers Health in gRPC. grpcio resets the streams of protocols that it does not know; grpc-js
// and grpclib answer them with status 415 and not a word.
func (e *Explainer) answersOnlyGRPC(ctx context.Context) bool {
	if e.config.Protocol == GRPC && !e.config.JSON || ctx.Err() != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	// An empty message in its envelope: not compressed, of length 0.
	request, err := http.NewRequestWithContext(ctx, http.MethodPost,
		e.config.Base.String()+apipbconnect.MyServiceHealthProcedure, strings.NewReader("\x00\x00\x00\x00\x00"))
	if err != nil {
		return false
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("Te", "trailers")
	response, err := e.config.Transport.RoundTrip(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK && protocolOf(response.Header.Get("Content-Type")) == GRPC
}

// examine greets the port with or without TLS, as the calls do, and then the other way if the
// answer makes no sense.
func (e *Explainer) examine(ctx context.Context) (finding, bool) {
	if e.tls != nil {
		return e.examineTLS(ctx)
	}
	answer := e.greet(ctx, nil)
	switch answer.kind {
	case answerTLS:
		return finding{ServerUsesTLS, ""}, true
	case answerHTTP1:
		return finding{NotHTTP2, answer.text}, true
	case answerHTTP2:
		return finding{}, false
	case noConnection:
		return answer.noConnection()
	}
	// Some TLS servers hang up or wait when greeted without TLS.
	if e.speaksTLS(ctx) {
		return finding{ServerUsesTLS, ""}, true
	}
	return answer.unexplained()
}

// speaksTLS reports whether the port answers TLS. The certificate is not verified: nothing but the
// greeting is sent to the server.
func (e *Explainer) speaksTLS(ctx context.Context) bool {
	return ctx.Err() == nil && e.greet(ctx, probeTLS(&tls.Config{InsecureSkipVerify: true})).spokeTLS()
}

func (e *Explainer) examineTLS(ctx context.Context) (finding, bool) {
	answer := e.greet(ctx, e.tls)
	if !answer.tls && (answer.kind == answerHTTP1 || answer.kind == answerHTTP2) {
		return finding{ServerUsesPlain, ""}, true
	}
	switch answer.kind {
	case answerHTTP2:
		return finding{}, false
	case answerHTTP1:
		return finding{NotHTTP2, answer.text}, true
	case noConnection:
		return answer.noConnection()
	case answerHungUp:
		if answer.certificateRequested {
			// In TLS 1.3 the client completes the handshake before the server notices that the
			// certificate is missing, and the server's alert may be lost to a reset.
			return finding{TLSRefused, "it asks for a client certificate"}, true
		}
	case answerTLS:
		var alert *net.OpError
		if errors.As(answer.err, &alert) && alert.Op == opTLSAlert {
			return finding{TLSRefused, alert.Err.Error()}, true
		}
		// The client's side failed the handshake.
		return finding{Certificate, answer.err.Error()}, true
	}
	switch cleartext := e.greet(ctx, nil); cleartext.kind {
	case answerHTTP1, answerHTTP2:
		return finding{ServerUsesPlain, ""}, true
	}
	return answer.unexplained()
}

// probeTLS is the caller's configuration, offering HTTP/1.1 besides HTTP/2: a server without HTTP/2
// then says so instead of failing the handshake.
func probeTLS(config *tls.Config) *tls.Config {
	if config == nil {
		config = &tls.Config{}
	}
	config = config.Clone()
	config.NextProtos = []string{"h2", "http/1.1"}
	return config
}
