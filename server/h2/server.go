package h2

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Keys of http.Server.TLSNextProto. The second is net/http's name for HTTP/2 without TLS, with
// prior knowledge.
const (
	protoTLS         = "h2"
	protoUnencrypted = "unencrypted_http2"
)

// Configure makes srv serve HTTP/2 with this package, over TLS and, unless srv.Protocols says
// otherwise, over cleartext connections of clients with prior knowledge (RFC 9113 §3.3). Call it
// once, before srv serves and after setting its hooks. Handler, ErrorLog, MaxHeaderBytes, HTTP2,
// timeouts and hooks of srv mean what they do for net/http; ReadTimeout and WriteTimeout limit each request
// and reply. It returns an error that names the field of cfg that is out of range. Connections of a
// [NewListener] take less memory.
func Configure(srv *http.Server, cfg Config) error {
	_, err := configure(srv, cfg)
	return err
}

func configure(srv *http.Server, cfg Config) (*server, error) {
	if srv == nil {
		return nil, errors.New("h2: Configure called without a server")
	}
	cfg, err := cfg.withDefaults(srv)
	if err != nil {
		return nil, err
	}
	names, err := newNameTable(cfg.KnownHeaders)
	if err != nil {
		return nil, err
	}
	s := &server{
		http:    srv,
		cfg:     cfg,
		clock:   newTickClock(cfg),
		names:   names,
		workers: workers{maxIdle: maxIdleWorkers, idleTimeout: workerIdleTimeout},
		conns:   make(map[*conn]struct{}),
		stats:   cfg.Stats,
		memory:  memory{size: int64(cfg.MaxMemory), addresses: make(map[netip.Prefix]*addressShare)},
	}
	s.stats.attach(s)
	if srv.Protocols == nil {
		srv.Protocols = new(http.Protocols)
		srv.Protocols.SetHTTP1(true)
		srv.Protocols.SetHTTP2(true)
		srv.Protocols.SetUnencryptedHTTP2(true)
	}
	if srv.TLSConfig == nil {
		srv.TLSConfig = new(tls.Config)
	}
	// If the caller makes a listener from srv.TLSConfig, it negotiates only what is listed here.
	if srv.Protocols.HTTP2() && !slices.Contains(srv.TLSConfig.NextProtos, protoTLS) {
		srv.TLSConfig.NextProtos = append(srv.TLSConfig.NextProtos, protoTLS)
	}
	if srv.Protocols.HTTP1() && !slices.Contains(srv.TLSConfig.NextProtos, "http/1.1") {
		srv.TLSConfig.NextProtos = append(srv.TLSConfig.NextProtos, "http/1.1")
	}
	if srv.TLSNextProto == nil {
		srv.TLSNextProto = make(map[string]func(*http.Server, *tls.Conn, http.Handler))
	}
	srv.TLSNextProto[protoTLS] = s.serveTLS
	srv.TLSNextProto[protoUnencrypted] = s.serveUnencrypted
	srv.RegisterOnShutdown(s.shutdown)
	s.wrapHooks()
	return s, nil
}

// server is what the connections of one http.Server share.
type server struct {
	http    *http.Server
	cfg     Config
	clock   tickClock
	names   nameTable
	workers workers
	buffers bufferPools
	date    atomic.Pointer[dateValue]
	stats   *Stats

	memory memory

	mu        sync.Mutex
	conns     map[*conn]struct{}
	shutting  bool
	handovers handovers
}

func (s *server) serveTLS(_ *http.Server, tc *tls.Conn, h http.Handler) {
	state := tc.ConnectionState()
	c := s.newConn(tc, h, baseContext(h))
	c.tls = &state
	if state.Version < tls.VersionTLS12 || weakCipher(state.CipherSuite) {
		s.stats.refusedTLS.Add(1)
		c.reject("TLS version or cipher suite is too weak for HTTP/2")
		return
	}
	c.serve(false)
}

func (s *server) serveUnencrypted(_ *http.Server, tc *tls.Conn, h http.Handler) {
	// net/http passes a cleartext connection inside a *tls.Conn, because TLSNextProto has that
	// signature, and has already read the client's preface.
	inner, ok := tc.NetConn().(interface{ UnencryptedNetConn() net.Conn })
	if !ok {
		s.logf("h2: net/http passed an encrypted connection from %v as a cleartext one", tc.RemoteAddr())
		return
	}
	nc := inner.UnencryptedNetConn()
	if l := loanOf(nc); s.canTakeOver(l) {
		s.takeOver(l, h)
		return
	}
	s.newConn(nc, h, baseContext(h)).serve(true)
}

// weakCipher reports whether a cipher suite of TLS 1.2 lacks forward secrecy or authenticated
// encryption, so that a server may refuse it (RFC 9113 §9.2.2). All suites of TLS 1.3 are accepted.
func weakCipher(id uint16) bool {
	switch id {
	case tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256:
		return false
	}
	return true
}

// baseContext returns the context that net/http made for the connection with
// http.Server.BaseContext and ConnContext. net/http passes it as an undocumented method of the
// handler.
func baseContext(h http.Handler) context.Context {
	if b, ok := h.(interface{ BaseContext() context.Context }); ok {
		return b.BaseContext()
	}
	return context.Background()
}

// add registers c. It reports whether the server is shutting down.
func (s *server) add(c *conn) (shutting bool) {
	s.stats.connections.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	return s.shutting
}

func (s *server) remove(c *conn) {
	s.stats.closed.Add(1)
	c.mu.Lock()
	opened := c.opened
	c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.stats.ended(opened)
	if c.handed {
		s.handovers.ended()
	}
	if s.shutting && len(s.conns) == 0 {
		s.workers.releaseIdle()
	}
}

func (s *server) logf(format string, args ...any) {
	if s.http.ErrorLog != nil {
		s.http.ErrorLog.Printf(format, args...)
	} else {
		log.Printf(format, args...)
	}
}

// dateValue is a value of the Date header, and how long it stays right.
type dateValue struct {
	made  time.Time
	lasts time.Duration
	text  string
}

// dateHeader returns the value of Date for the current second.
func (s *server) dateHeader() string {
	// Since reads only the monotonic clock, which takes half the time of Now.
	if d := s.date.Load(); d != nil && time.Since(d.made) < d.lasts {
		return d.text
	}
	now := time.Now()
	d := &dateValue{
		made:  now,
		lasts: time.Second - time.Duration(now.Nanosecond()),
		text:  now.UTC().Format(http.TimeFormat),
	}
	s.date.Store(d)
	return d.text
}
