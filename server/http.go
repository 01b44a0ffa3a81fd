package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"example.com/roster/server/conn"
	"example.com/roster/server/h2"
	"example.com/roster/server/rpc"
)

// Limits of the port that no flag sets.
const (
	// maxHeaderBytes bounds the names and values of one request's header together. grpcio by itself
	// refuses to receive more than about half of that.
	maxHeaderBytes = 16 << 10
	// headerTimeout is how long a request's header may take to arrive.
	headerTimeout = 10 * time.Second
	// idleTimeout is how long a connection without requests stays open. It is long, because a call
	// that is sent at the moment at which its connection is closed may fail.
	idleTimeout = 15 * time.Minute
	// cleartextIdleTimeout is the idle timeout of cleartext connections to a port with TLS, where
	// every call is refused.
	cleartextIdleTimeout = 10 * time.Second
	// stallTimeout is how long the transfer of a message, in either direction, may make no progress
	// before its stream or connection is closed. It does not bound the time of a whole call or stream.
	stallTimeout = 30 * time.Second
	// pingInterval is how long a connection with calls may be silent before the server sends a PING,
	// and pingTimeout how long the client may take to acknowledge it.
	pingInterval = time.Minute
	pingTimeout  = 15 * time.Second
	// maxStreams is how many calls one HTTP/2 connection may have open.
	maxStreams = 250
	// spareMemory is what all HTTP/2 connections may hold together, in bytes, besides the calls and the
	// watches, of health and of users, that have maximums: bodies, output that is not read, long headers.
	spareMemory = 8 << 20
)

// newHTTPServer returns an HTTP server with the limits of the port. It speaks TLS if tlsConfig is
// set. HTTP/2 connections are counted in stats.
func (s *Server) newHTTPServer(handler http.Handler, tlsConfig *tls.Config, errorLog *conn.ErrorLog, stats *h2.Stats) (*http.Server, error) {
	httpServer := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return s.chain.ConnContext(conn.Context(ctx, c))
		},
		ErrorLog: errorLog.Logger(),
		// No ReadTimeout and no WriteTimeout: they would cut streams.
		Protocols: new(http.Protocols),
		TLSConfig: tlsConfig.Clone(),
	}
	httpServer.Protocols.SetHTTP1(true)
	httpServer.Protocols.SetHTTP2(tlsConfig != nil)
	httpServer.Protocols.SetUnencryptedHTTP2(tlsConfig == nil)
	if s.config.StandardHTTP2 {
		httpServer.HTTP2 = &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			SendPingTimeout:      pingInterval,
			PingTimeout:          pingTimeout,
		}
		httpServer.Handler = conn.MarkHTTP2Requests(handler)
		return httpServer, nil
	}
	err := h2.Configure(httpServer, h2.Config{
		MaxConcurrentStreams: maxStreams,
		MaxMemory:            h2.StreamCost*(s.config.MaxConcurrentCalls+2*s.config.MaxWatches) + spareMemory,
		StallTimeout:         s.config.stallTimeout,
		PingInterval:         pingInterval,
		PingTimeout:          pingTimeout,
		Stats:                stats,
		RequestContext:       rpc.NewContext,
		Idle:                 conn.Idle,
		KnownHeaders:         knownHeaders,
		HeaderTooLarge:       refuseLongHeader,
	})
	conn.MarkHTTP2(httpServer)
	return httpServer, err
}

// knownHeaders are the header fields of gRPC, gRPC-Web and Connect. Package h2 itself knows those
// of HTTP alone. Replies with a Grpc-Status have no Content-Length, since a gRPC client presents
// every header field that gRPC does not define as metadata of the call.
var knownHeaders = []h2.KnownHeader{
	{Name: "Connect-Accept-Encoding"},
	{Name: "Connect-Content-Encoding"},
	{Name: "Connect-Protocol-Version"},
	{Name: "Connect-Timeout-Ms"},
	{Name: "Grpc-Accept-Encoding"},
	{Name: "Grpc-Encoding"},
	{Name: "Grpc-Message", Trailer: true, RarelyRepeats: true},
	{Name: "Grpc-Previous-Rpc-Attempts"},
	{Name: "Grpc-Status", Trailer: true, NoContentLength: true},
	{Name: "Grpc-Status-Details-Bin", RarelyRepeats: true},
	{Name: "Grpc-Tags-Bin"},
	{Name: "Grpc-Timeout"},
	{Name: "Grpc-Trace-Bin"},
	{Name: "X-Grpc-Web"},
	{Name: "X-User-Agent"},
}

// refuseLongHeader replies to a request whose header is longer than maxHeaderBytes. A gRPC client
// gets RESOURCE_EXHAUSTED, because it would report the status 431, which other clients get, as
// UNKNOWN.
func refuseLongHeader(w http.ResponseWriter, r *http.Request) {
	if media, _ := rpc.RequestMediaType(r); media.Protocol != rpc.GRPC {
		h2.HeaderTooLarge(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", fmt.Sprint(uint32(connect.CodeResourceExhausted)))
	h.Set("Grpc-Message", fmt.Sprintf("the header is longer than the %d bytes that this server accepts", maxHeaderBytes))
	w.WriteHeader(http.StatusOK)
}
