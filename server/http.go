package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

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

// newHTTPServer returns an HTTP server with the limits of the port, for TLS if tlsConfig is set.
func (s *Server) newHTTPServer(handler http.Handler, tlsConfig *tls.Config, errorLog *conn.ErrorLog) (*http.Server, error) {
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
		Stats:                &s.stats.HTTP2,
		RequestContext:       rpc.NewContext,
	})
	conn.MarkHTTP2(httpServer)
	return httpServer, err
}
