package h2

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"example.com/roster/server/h2/h2test"
)

// testServer is a stock http.Server on loopback with either HTTP/2 engine.
type testServer struct {
	*http.Server
	addr   string
	useTLS bool
	keep   bool // net/http keeps plain connections: no NewListener
	log    *logBuffer
	engine *server // nil for the oracle
}

// connections returns how many connections the engine serves.
func (s *testServer) connections() int {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	return len(s.engine.conns)
}

// idleWorkers returns how many goroutines wait for a request.
func (s *testServer) idleWorkers() int {
	s.engine.workers.mu.Lock()
	defer s.engine.workers.mu.Unlock()
	return len(s.engine.workers.idle)
}

// logBuffer collects what the server logs.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serverOption changes a test server before it starts.
type serverOption func(*testServer)

func withTLS(s *testServer) { s.useTLS = true }

func withoutHandOver(s *testServer) { s.keep = true }

// newServer starts this package's engine.
func newServer(t testing.TB, h http.Handler, cfg Config, opts ...serverOption) *testServer {
	t.Helper()
	var engine *server
	t.Cleanup(func() { // after the server has closed
		if engine != nil {
			eventually(t, "no memory is charged any more", func() bool { return engine.memory.used.Load() == 0 })
		}
	})
	s := startServer(t, h, func(srv *http.Server) {
		var err error
		if engine, err = configure(srv, cfg); err != nil {
			t.Fatal(err)
		}
	}, opts...)
	s.engine = engine
	return s
}

// newOracle starts net/http's own engine.
func newOracle(t testing.TB, h http.Handler, opts ...serverOption) *testServer {
	t.Helper()
	return startServer(t, h, func(srv *http.Server) {
		srv.Protocols = new(http.Protocols)
		srv.Protocols.SetHTTP1(true)
		srv.Protocols.SetHTTP2(true)
		srv.Protocols.SetUnencryptedHTTP2(true)
	}, opts...)
}

func startServer(t testing.TB, h http.Handler, configure func(*http.Server), opts ...serverOption) *testServer {
	t.Helper()
	s := &testServer{Server: &http.Server{Handler: h}, log: &logBuffer{}}
	s.ErrorLog = log.New(s.log, "", 0)
	for _, o := range opts {
		o(s)
	}
	if s.useTLS {
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{testCertificate(t)}}
	}
	configure(s.Server)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	if !s.keep {
		ln = NewListener(ln)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if s.useTLS {
			s.ServeTLS(ln, "", "")
		} else {
			s.Serve(ln)
		}
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return s
}

// testCertificate returns the certificate that httptest serves with.
func testCertificate(t testing.TB) tls.Certificate {
	ts := httptest.NewUnstartedServer(nil)
	ts.StartTLS()
	defer ts.Close()
	return ts.TLS.Certificates[0]
}

// client speaks HTTP/2 frame by frame.
type client struct {
	*h2test.Client
	t  testing.TB
	nc net.Conn
	fr *http2.Framer // that of Client
}

func newClient(t testing.TB, nc net.Conn) *client {
	c := h2test.New(nc)
	return &client{Client: c, t: t, nc: nc, fr: c.Framer}
}

// dial connects and exchanges prefaces.
func (s *testServer) dial(t testing.TB, settings ...http2.Setting) *client {
	t.Helper()
	c := s.dialRaw(t)
	c.must(c.Hello(settings...))
	return c
}

// dialRaw connects and sends nothing.
func (s *testServer) dialRaw(t testing.TB) *client {
	t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	if s.useTLS {
		nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	}
	c := newClient(t, nc)
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	nc.SetDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() { nc.Close() })
	return c
}

func (c *client) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) write(p []byte) {
	c.t.Helper()
	_, err := c.nc.Write(p)
	c.must(err)
}

// request opens a stream with the usual pseudo-header fields and more fields. A method of "" is GET.
func (c *client) request(method, path string, end bool, kv ...string) (id uint32) {
	c.t.Helper()
	if method == "" {
		method = "GET"
	}
	id = c.NextID
	c.NextID += 2
	c.headers(id, end, append([]string{":method", method, ":scheme", "http", ":path", path, ":authority", "example.com"}, kv...)...)
	return id
}

func (c *client) headers(id uint32, end bool, kv ...string) {
	c.t.Helper()
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.Block(kv...), EndStream: end, EndHeaders: true}))
}

func (c *client) data(id uint32, end bool, data string) {
	c.t.Helper()
	c.must(c.fr.WriteData(id, end, []byte(data)))
}

// fields are values by name, as on the wire.
type fields map[string][]string

// reply is what came back on a stream.
type reply struct {
	informational []string
	status        string
	header        fields
	trailer       fields
	body          string
	ended         bool
	reset         bool
	code          http2.ErrCode // of RST_STREAM or GOAWAY
	goAway        bool
	closed        bool // the connection ended first
}

// refused reports whether the request was answered with an error of the protocol.
func (r reply) refused() bool { return r.reset || r.goAway || r.closed }

func (r reply) String() string {
	if r.goAway || r.reset {
		return fmt.Sprintf("status=%q ended=%v reset=%v goaway=%v %v", r.status, r.ended, r.reset, r.goAway, r.code)
	}
	return fmt.Sprintf("status=%q header=%v body=%.60q (%d) trailer=%v ended=%v", r.status, r.header, r.body, len(r.body), r.trailer, r.ended)
}

// read reads frames until the stream ends, answering pings and settings, and returning windows as data comes.
func (c *client) read(id uint32) (r reply) {
	c.t.Helper()
	all := c.readAll(id)
	return *all[id]
}

// readAll reads frames until all the streams have ended.
func (c *client) readAll(ids ...uint32) map[uint32]*reply {
	c.t.Helper()
	all := make(map[uint32]*reply)
	open := len(ids)
	for _, id := range ids {
		all[id] = &reply{header: fields{}, trailer: fields{}}
	}
	for open > 0 {
		f, err := c.fr.ReadFrame()
		if err != nil {
			var se http2.StreamError
			if errors.As(err, &se) {
				c.t.Fatalf("client cannot read stream %d: %v (%v)", se.StreamID, err, c.fr.ErrorDetail())
			}
			for _, r := range all {
				r.closed = r.closed || !r.ended && !r.reset
			}
			return all
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			if g.ErrCode == http2.ErrCodeNo {
				continue
			}
			for _, r := range all {
				if !r.ended && !r.reset {
					r.goAway, r.code = true, g.ErrCode
				}
			}
			return all
		}
		c.Answer(f)
		r := all[f.Header().StreamID]
		if r != nil && !r.ended && !r.reset && r.take(f) {
			open--
		}
	}
	return all
}

// take adds a frame to the reply and reports whether that was the last.
func (r *reply) take(f http2.Frame) bool {
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		status := f.PseudoValue("status")
		if strings.HasPrefix(status, "1") {
			r.informational = append(r.informational, status)
			return false
		}
		into := r.header
		if r.status != "" {
			into = r.trailer
		} else {
			r.status = status
		}
		for _, hf := range f.RegularFields() {
			into[hf.Name] = append(into[hf.Name], hf.Value)
		}
		r.ended = f.StreamEnded()
	case *http2.DataFrame:
		r.body += string(f.Data())
		r.ended = f.StreamEnded()
	case *http2.RSTStreamFrame:
		r.reset, r.code = true, f.ErrCode
	}
	return r.ended || r.reset
}

// next returns the next frame of a type, skipping others.
func nextFrame[F http2.Frame](c *client) F {
	c.t.Helper()
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			var want F
			c.t.Fatalf("waiting for %T: %v", want, err)
		}
		if f, ok := f.(F); ok {
			return f
		}
		c.Answer(f)
	}
}

// goAway reads until a GOAWAY with an error and returns its code.
func (c *client) goAway() http2.ErrCode {
	c.t.Helper()
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			c.t.Fatalf("waiting for GOAWAY: %v", err)
		}
		if g, ok := f.(*http2.GoAwayFrame); ok && g.ErrCode != http2.ErrCodeNo {
			return g.ErrCode
		}
	}
}

// get sends a GET and returns the reply.
func (c *client) get(path string, kv ...string) reply {
	c.t.Helper()
	return c.read(c.request("", path, true, kv...))
}

// eventually waits until ok returns true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never came true: %s", what)
}

func sortedKeys(h http.Header) []string {
	keys := make([]string, 0, len(h))
	for k := range h {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// url returns the address of a path for http.Client.
func (s *testServer) url(path string) string {
	if s.useTLS {
		return "https://" + s.addr + path
	}
	return "http://" + s.addr + path
}

// httpClient returns a stock client that speaks nothing but HTTP/2.
func httpClient(t testing.TB, s *testServer) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	if s.useTLS {
		tr.Protocols.SetHTTP2(true)
	} else {
		tr.Protocols.SetUnencryptedHTTP2(true)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}
