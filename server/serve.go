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

// Serve answers on listener until ctx is done, then drains: it goes on for Config.DrainDelay, accepts
// no more connections, tells clients to make new ones, lets running calls finish for up to
// Config.DrainTimeout, and cuts the rest. It returns nil if every call finished, and closes listener,
// with listen.Retire: another process may have the address by then. It is called once.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	log := s.config.Log
	errorLog := conn.NewErrorLog(log)
	httpServer, err := s.newHTTPServer(s.parting.Handler(s.handler), s.config.TLS, errorLog, &s.stats.HTTP2)
	if err != nil {
		return err
	}
	connConfig := conn.Config{
		StallTimeout:   s.config.stallTimeout,
		MaxConnections: s.config.MaxConnections,
		Stats:          &s.stats.Connections,
		Parting:        &s.parting,
		Log:            errorLog,
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
			served <- httpServer.ServeTLS(conns, "", "") // the certificate is in the configuration
			return
		}
		if !s.config.StandardHTTP2 {
			conns = h2.NewListener(conns) // outermost, or it finds no connections of its own in net/http
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

// end gives the listener up and lets the calls that run finish. served gets what httpServer.Serve returned.
func (s *Server) end(httpServer *http.Server, listener net.Listener, served <-chan error) error {
	draining, cancel := context.WithTimeout(context.Background(), s.config.DrainTimeout)
	defer cancel()
	if err := listen.Retire(draining, listener); err != nil {
		s.config.Log.Warn("the port was not given up cleanly", "error", err)
	}
	<-served // what was accepted is known to httpServer now
	s.parting.Wait(draining)
	// Not sooner: a client that follows this server's health, and knows no other, fails its calls once
	// it hears. It is to leave the connection first, for one to the process that has the address now.
	s.drain.Begin()
	// Shutdown has the HTTP/2 engine say goodbye (RFC 9113 §6.8), so that clients open their next
	// streams elsewhere.
	httpServer.RegisterOnShutdown(s.drain.Close)
	err := httpServer.Shutdown(draining)
	if errors.Is(err, context.DeadlineExceeded) {
		httpServer.Close()
		return fmt.Errorf("calls still running after the drain timeout of %v were cut", s.config.DrainTimeout)
	}
	return err
}
