package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"example.com/roster/server/conn"
	"example.com/roster/server/h2"
	"example.com/roster/server/listen"
)

// Serve serves on listener until ctx is done, and then drains the port: it goes on serving for
// Config.DrainDelay, closes the listener, tells clients to open new connections elsewhere, waits up
// to Config.DrainTimeout for running calls, and closes the connections of those that still run. It
// returns nil if every call finished. The listener is closed with listen.Retire, which loses no
// connection even if another process has the address by then. Serve may be called once.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	log := s.config.Log
	errorLog := conn.NewErrorLog(log)
	httpServer, err := s.newHTTPServer(s.http1Drain.Handler(s.handler), s.config.TLS, errorLog, &s.stats.HTTP2)
	if err != nil {
		return err
	}
	connConfig := conn.Config{
		StallTimeout:   s.config.stallTimeout,
		MaxConnections: s.config.MaxConnections,
		Stats:          &s.stats.Connections,
		HTTP1Drain:     &s.http1Drain,
		Log:            errorLog,
		ProxyProtocol:  s.config.ProxyProtocol,
		TrustedProxies: s.config.TrustedProxies,
	}
	if s.config.TLS != nil {
		refuse := conn.BoundLeftovers(conn.RefuseCleartext(), s.config.stallTimeout)
		connConfig.Cleartext, err = s.newHTTPServer(refuse, nil, errorLog, new(h2.Stats))
		if err != nil {
			return err
		}
		connConfig.Cleartext.IdleTimeout = cleartextIdleTimeout
		defer connConfig.Cleartext.Close()
	}
	conns := conn.NewListener(listener, connConfig)
	served := make(chan error, 1)
	go func() {
		if s.config.TLS != nil {
			served <- httpServer.ServeTLS(conns, "", "") // the certificate is in Config.TLS
			return
		}
		if !s.config.StandardHTTP2 {
			conns = h2.NewListener(conns) // outermost: net/http must pass its connections to the engine
		}
		served <- httpServer.Serve(conns)
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	log.Info("draining", "delay", s.config.DrainDelay, "timeout", s.config.DrainTimeout)
	if s.config.DrainDelay > 0 {
		s.drain.Begin()
		select {
		case err := <-served:
			return fmt.Errorf("serve %s: %w", listener.Addr(), err)
		case <-time.After(s.config.DrainDelay):
		}
	}
	return s.end(httpServer, listener, served)
}

// end closes the listener and waits for running calls. served receives the result of
// httpServer.Serve.
func (s *Server) end(httpServer *http.Server, listener net.Listener, served <-chan error) error {
	draining, cancel := context.WithTimeout(context.Background(), s.config.DrainTimeout)
	defer cancel()
	if err := listen.Retire(draining, listener); err != nil {
		s.config.Log.Warn("the listener was not closed cleanly", "error", err)
	}
	<-served // from here on httpServer knows every accepted connection
	s.http1Drain.Wait(draining)
	// Health says NOT_SERVING from here on, and not earlier: a client that watches health and has no
	// other server fails its calls when it hears that. First it must leave this connection for one to
	// the process that has the address now.
	s.drain.Begin()
	// Shutdown makes the HTTP/2 engine send GOAWAY (RFC 9113 §6.8), so that clients open their next
	// streams on other connections.
	httpServer.RegisterOnShutdown(s.drain.Close)
	err := httpServer.Shutdown(draining)
	if errors.Is(err, context.DeadlineExceeded) {
		httpServer.Close()
		return fmt.Errorf("calls still running after the drain timeout of %v were cut", s.config.DrainTimeout)
	}
	return err
}
