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

// The limits of the port that have no flag.
const (
	// maxHeaderBytes bounds the header of one request, names and values together; grpcio itself refuses
	// more than about half of it.
	maxHeaderBytes = 16 << 10
	// headerTimeout is how long a request's header may take to arrive.
	headerTimeout = 10 * time.Second
	// idleTimeout closes a connection without requests. It is long, since a client that sends just as
	// its connection is closed may see that call fail.
	idleTimeout = 15 * time.Minute
	// cleartextIdleTimeout is the same for a connection that comes without TLS to a port with it;
	// nobody has more to ask there.
	cleartextIdleTimeout = 10 * time.Second
	// stallTimeout is how long a message under way may stand still, in either direction, before the
	// stream or connection is given up. It is no bound on how long a call or a stream may take.
	stallTimeout = 30 * time.Second
	// pingInterval is how long a connection with calls may be silent before it is asked whether it is
	// still there, pingTimeout how long the answer may take.
	pingInterval = time.Minute
	pingTimeout  = 15 * time.Second
	// maxStreams is how many calls one HTTP/2 connection may have open.
	maxStreams = 250
)

// newHTTPServer returns an HTTP server with the limits of the port, for TLS if tlsConfig is set, whose
// HTTP/2 connections are counted in stats.
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
			// A connection that says nothing is asked whether it is still there.
			SendPingTimeout: pingInterval,
			PingTimeout:     pingTimeout,
		}
		httpServer.Handler = conn.MarkHTTP2Requests(handler)
		return httpServer, nil
	}
	err := h2.Configure(httpServer, h2.Config{
		MaxConcurrentStreams: maxStreams,
		StallTimeout:         s.config.stallTimeout,
		PingInterval:         pingInterval,
		PingTimeout:          pingTimeout,
		Stats:                stats,
		RequestContext:       rpc.NewContext,
		KnownHeaders:         knownHeaders,
		HeaderTooLarge:       refuseLongHeader,
	})
	conn.MarkHTTP2(httpServer)
	return httpServer, err
}

// knownHeaders are the header fields of gRPC, gRPC-Web and Connect, for package h2, which knows
// only those of HTTP. A gRPC client shows its caller every header field that it does not know as
// metadata of the call, so replies of gRPC have no Content-Length.
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

// refuseLongHeader replies to a request whose header is longer than maxHeaderBytes: to gRPC with
// RESOURCE_EXHAUSTED, since its clients turn the status 431, which all others get, into UNKNOWN.
func refuseLongHeader(w http.ResponseWriter, r *http.Request) {
	if media, _ := rpc.RequestMediaType(r); media.Protocol != rpc.GRPC {
		h2.HeaderTooLarge(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", fmt.Sprint(uint32(connect.CodeResourceExhausted)))
	h.Set("Grpc-Message", fmt.Sprintf("the header is longer than the %d bytes that this server takes", maxHeaderBytes))
	w.WriteHeader(http.StatusOK)
}
