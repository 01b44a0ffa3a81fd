package h2

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// bothWays runs a test with connections that net/http hands over and with ones that it keeps.
func bothWays(t *testing.T, f func(t *testing.T, opts ...serverOption)) {
	t.Run("handed over", func(t *testing.T) { f(t) })
	t.Run("kept", func(t *testing.T) { f(t, withoutHandOver) })
}

// handedOver returns how many connections net/http has handed over, and whether it keeps the
// anchor's.
func (s *testServer) handedOver() (n int, anchored bool) {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	return s.engine.handovers.n, s.engine.handovers.anchor != nil
}

// gone waits until the server has no connection.
func (s *testServer) gone(t testing.TB) {
	t.Helper()
	eventually(t, "no connections", func() bool {
		n, anchored := s.handedOver()
		return s.connections() == 0 && n == 0 && !anchored
	})
}

// dialSome returns n connections that have made a call each; the first is the anchor's.
func (s *testServer) dialSome(t testing.TB, n int) []*client {
	t.Helper()
	all := make([]*client, n)
	for i := range all {
		all[i] = s.dial(t)
		if r := all[i].get("/"); r.status != "200" {
			t.Fatalf("got %v", r)
		}
	}
	return all
}

// hangUp reads until the server ends the connection, and then closes it.
func (c *client) hangUp() {
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				c.t.Error("the server did not end the connection")
			}
			c.nc.Close()
			return
		}
		c.Answer(f)
	}
}

// slowHandler replies at once, except to /slow, which signals its start and then waits.
type slowHandler struct{ started, release chan bool }

func newSlowHandler() slowHandler { return slowHandler{make(chan bool), make(chan bool)} }

func (h slowHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/slow" {
		h.started <- true
		select {
		case <-h.release:
		case <-r.Context().Done():
		}
	}
	io.WriteString(w, r.URL.Path)
}

func TestConnectionsAreHandedOver(t *testing.T) {
	s := newServer(t, http.HandlerFunc(wroteNothing), Config{})
	s.dialSome(t, 3)
	if n, anchored := s.handedOver(); n != 3 || !anchored {
		t.Errorf("%d connections handed over, anchored: %v", n, anchored)
	}
}

func TestShutdownWaitsForRunningCall(t *testing.T) {
	for running := range 2 { // the connection with the call: the anchor's, and another
		h := newSlowHandler()
		s := newServer(t, h, Config{})
		cs := s.dialSome(t, 2)
		id := cs[running].request("", "/slow", true)
		<-h.started
		go cs[1-running].hangUp()
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(t.Context()) }()
		eventually(t, "the other connection ended", func() bool { return s.connections() == 1 })
		select {
		case err := <-done:
			t.Fatalf("Shutdown returned %v before the call had ended", err)
		case <-time.After(600 * time.Millisecond): // it polls twice a second at least
		}
		h.release <- true
		if r := cs[running].read(id); r.body != "/slow" {
			t.Errorf("got %v", r)
		}
		cs[running].hangUp()
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		s.gone(t)
	}
}

func TestShutdownWithIdleConnections(t *testing.T) {
	bothWays(t, func(t *testing.T, opts ...serverOption) {
		s := newServer(t, http.HandlerFunc(wroteNothing), Config{}, opts...)
		for _, c := range s.dialSome(t, 3) {
			go c.hangUp()
		}
		begun := time.Now()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("Shutdown took %v", d)
		}
		s.gone(t)
	})
}

func TestCloseCutsConnections(t *testing.T) {
	bothWays(t, func(t *testing.T, opts ...serverOption) {
		h := newSlowHandler()
		s := newServer(t, h, Config{}, opts...)
		cs := s.dialSome(t, 4)
		for _, c := range cs[:2] {
			c.request("", "/slow", true)
			<-h.started
		}
		s.Close()
		for i, c := range cs {
			if _, err := c.fr.ReadFrame(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("connection %d after Close: %v", i, err)
			}
		}
		s.gone(t)
	})
}

// The anchor's connection ends first: its hook must not return before the others have ended too.
func TestAnchorEndsFirst(t *testing.T) {
	for _, end := range []string{"shutdown", "close", "by themselves"} {
		t.Run(end, func(t *testing.T) {
			h := newSlowHandler()
			s := newServer(t, h, Config{})
			cs := s.dialSome(t, 3)
			cs[0].nc.Close()
			eventually(t, "the anchor's connection ended", func() bool { return s.connections() == 2 })
			if n, anchored := s.handedOver(); n != 2 || !anchored {
				t.Fatalf("%d connections left, anchored: %v", n, anchored)
			}
			id := cs[1].request("", "/slow", true)
			<-h.started
			switch end {
			case "shutdown":
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				if err := s.Shutdown(ctx); err != context.DeadlineExceeded {
					t.Errorf("Shutdown did not wait: %v", err)
				}
				h.release <- true
				if r := cs[1].read(id); r.body != "/slow" {
					t.Errorf("got %v", r)
				}
				go cs[1].hangUp()
				go cs[2].hangUp()
				if err := s.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			case "close":
				s.Close()
				for _, c := range cs[1:] {
					c.hangUp()
				}
			default:
				h.release <- true
				cs[1].nc.Close()
				cs[2].nc.Close()
				s.gone(t)
				// The next connection is the anchor's.
				cs = s.dialSome(t, 2)
				if n, anchored := s.handedOver(); n != 2 || !anchored {
					t.Errorf("%d connections handed over, anchored: %v", n, anchored)
				}
				s.Close()
				for _, c := range cs {
					c.hangUp()
				}
			}
			s.gone(t)
		})
	}
}

// A connection that is handed over after http.Server.Close must be closed too.
func TestNoHandOverAfterClose(t *testing.T) {
	s := newServer(t, http.HandlerFunc(wroteNothing), Config{})
	s.engine.mu.Lock()
	s.engine.handovers.closed = true
	s.engine.mu.Unlock()
	s.dial(t).hangUp()
	s.gone(t)
}

func TestContextOfConnection(t *testing.T) {
	bothWays(t, func(t *testing.T, opts ...serverOption) {
		type key string
		base, cancel := context.WithCancel(context.WithValue(context.Background(), key("base"), "b"))
		defer cancel()
		waiting, ended := make(chan bool), make(chan error)
		var n atomic.Int32
		s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := r.Context()
			if r.URL.Path == "/wait" {
				waiting <- true
				<-ctx.Done()
				ended <- ctx.Err()
				return
			}
			srv, _ := ctx.Value(http.ServerContextKey).(*http.Server)
			local, _ := ctx.Value(http.LocalAddrContextKey).(net.Addr)
			fmt.Fprint(w, ctx.Value(key("base")), " ", ctx.Value(key("conn")), " ", srv.Handler != nil, " ", local, " ", ctx.Err())
		}), Config{}, append(opts, func(s *testServer) {
			s.BaseContext = func(net.Listener) context.Context { return base }
			s.ConnContext = func(ctx context.Context, nc net.Conn) context.Context {
				if _, ok := nc.(*net.TCPConn); !ok {
					t.Errorf("ConnContext was called with a %T", nc)
				}
				return context.WithValue(ctx, key("conn"), n.Add(1))
			}
		})...)
		cs := []*client{s.dial(t), s.dial(t)}
		for i, c := range cs {
			want := fmt.Sprintf("b %d true %s <nil>", i+1, s.addr)
			if r := c.get("/"); r.body != want {
				t.Errorf("got %q, want %q", r.body, want)
			}
			c.request("", "/wait", true)
			<-waiting
		}
		select {
		case err := <-ended:
			t.Fatalf("a request's context ended by itself: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
		cancel()
		for range cs {
			if err := <-ended; err != context.Canceled {
				t.Errorf("context ended with %v", err)
			}
		}
		// The same is true of later requests.
		cs[1].request("", "/wait", true)
		<-waiting
		<-ended
	})
}

func TestStatesOfConnections(t *testing.T) {
	whole := []http.ConnState{http.StateNew, http.StateActive, http.StateIdle, http.StateActive, http.StateIdle, http.StateClosed}
	bothWays(t, func(t *testing.T, opts ...serverOption) {
		var mu sync.Mutex
		states := make(map[net.Conn][]http.ConnState)
		order := []net.Conn{}
		s := newServer(t, http.HandlerFunc(wroteNothing), Config{}, append(opts, func(s *testServer) {
			s.ConnState = func(nc net.Conn, state http.ConnState) {
				mu.Lock()
				defer mu.Unlock()
				if states[nc] == nil {
					order = append(order, nc)
				}
				states[nc] = append(states[nc], state)
			}
		})...)
		are := func(i int, want []http.ConnState) func() bool {
			return func() bool {
				mu.Lock()
				defer mu.Unlock()
				return slices.Equal(states[order[i]], want)
			}
		}
		cs := s.dialSome(t, 2)
		for i := range cs {
			eventually(t, "states of an idle connection", are(i, whole[:5]))
		}
		time.Sleep(20 * time.Millisecond) // for a hook that returned to be taken for the end
		for i, c := range cs {
			if !are(i, whole[:5])() {
				t.Errorf("connection %d is reported as %v", i, states[order[i]])
			}
			c.nc.Close()
			eventually(t, "states of a connection that ended", are(i, whole))
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(20 * time.Millisecond) // for one that is reported twice
		mu.Lock()
		defer mu.Unlock()
		if len(order) != 2 {
			t.Errorf("states of %d connections: %v", len(order), states)
		}
		for _, nc := range order {
			if _, ok := nc.(*net.TCPConn); !ok || !slices.Equal(states[nc], whole) {
				t.Errorf("states of a %T: %v", nc, states[nc])
			}
		}
	})
}

// Hooks that are set after Configure hide the connection from the engine, so net/http keeps it.
func TestHooksSetAfterConfigure(t *testing.T) {
	for name, set := range map[string]func(*http.Server){
		"ConnState": func(s *http.Server) { s.ConnState = func(net.Conn, http.ConnState) {} },
		"ConnContext": func(s *http.Server) {
			s.ConnContext = func(ctx context.Context, _ net.Conn) context.Context { return ctx }
		},
	} {
		t.Run(name, func(t *testing.T) {
			var engine *server
			s := startServer(t, http.HandlerFunc(wroteNothing), func(srv *http.Server) {
				engine, _ = configure(srv, Config{})
				set(srv)
			})
			s.engine = engine
			c := s.dialSome(t, 1)[0]
			if n, _ := s.handedOver(); n != 0 || s.connections() != 1 {
				t.Errorf("%d connections, %d of them handed over", s.connections(), n)
			}
			s.Close()
			c.hangUp()
			s.gone(t)
		})
	}
}

// wrappedListener hides what it accepts behind a connection of its own kind.
type wrappedListener struct {
	net.Listener
	wrap func(net.Conn) net.Conn
}

func (l wrappedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.wrap(nc), nil
}

// serveOn serves what wrap makes of a listener on loopback.
func serveOn(t *testing.T, s *testServer, wrap func(net.Listener) net.Listener) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	go s.Serve(wrap(ln))
}

func TestListenersInAnyOrder(t *testing.T) {
	opaque := func(nc net.Conn) net.Conn { return struct{ net.Conn }{nc} }
	for _, tc := range []struct {
		name   string
		handed int
		wrap   func(net.Listener) net.Listener
	}{
		{"outermost", 1, func(l net.Listener) net.Listener { return NewListener(wrappedListener{l, opaque}) }},
		{"within another", 0, func(l net.Listener) net.Listener { return wrappedListener{NewListener(l), opaque} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, http.HandlerFunc(wroteNothing), Config{})
			serveOn(t, s, tc.wrap)
			c := s.dialSome(t, 1)[0]
			if n, _ := s.handedOver(); n != tc.handed {
				t.Errorf("%d connections handed over, want %d", n, tc.handed)
			}
			go c.hangUp()
			if err := s.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			s.gone(t)
		})
	}
}

// A connection that is TLS already must reach net/http as a *tls.Conn.
func TestListenerAroundTLS(t *testing.T) {
	s := newServer(t, http.HandlerFunc(wroteNothing), Config{})
	config := &tls.Config{Certificates: []tls.Certificate{testCertificate(t)}, NextProtos: []string{"h2"}}
	serveOn(t, s, func(l net.Listener) net.Listener { return NewListener(tls.NewListener(l, config)) })
	(&testServer{addr: s.addr, useTLS: true}).dialSome(t, 1)
	if n, _ := s.handedOver(); n != 0 || s.connections() != 1 {
		t.Errorf("%d connections, %d of them handed over", s.connections(), n)
	}
}

func TestListenerPassesErrorsOn(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if nc, err := NewListener(ln).Accept(); nc != nil || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept on a closed listener: %v, %v", nc, err)
	}
}

// HTTP/1.1 on the same port is unchanged: connections are kept alive, closed and hijacked as
// without the engine.
func TestHTTP1BesideHandedOver(t *testing.T) {
	hijacked := make(chan net.Conn, 1)
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hijack" {
			nc, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
			}
			hijacked <- nc
			return
		}
		io.WriteString(w, r.Proto)
	}), Config{})
	h2 := s.dialSome(t, 2)
	dial := func() (net.Conn, *bufio.Reader) {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(10 * time.Second))
		t.Cleanup(func() { nc.Close() })
		return nc, bufio.NewReader(nc)
	}
	get := func(nc net.Conn, r *bufio.Reader, path, header string) {
		t.Helper()
		fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, header)
		reply, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(reply.Body)
		if string(body) != "HTTP/1.1" || err != nil {
			t.Errorf("got %q, %v", body, err)
		}
	}
	nc, r := dial()
	get(nc, r, "/", "")
	get(nc, r, "/", "Connection: close\r\n")
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after Connection: close: %v", err)
	}
	nc, r = dial()
	fmt.Fprint(nc, "GET /hijack HTTP/1.1\r\nHost: x\r\n\r\n")
	ours := <-hijacked
	for what, ok := range map[string]bool{
		"ReadFrom":    is[io.ReaderFrom](ours),
		"SyscallConn": is[syscall.Conn](ours),
		"CloseWrite":  is[interface{ CloseWrite() error }](ours),
	} {
		if !ok {
			t.Errorf("a hijacked connection has lost its method %s", what)
		}
	}
	io.WriteString(ours, "mine")
	ours.Close()
	if text, err := io.ReadAll(r); string(text) != "mine" || err != nil {
		t.Errorf("a hijacked connection: %q, %v", text, err)
	}
	// Shutdown closes an idle connection, and those of HTTP/2 do not depend on it.
	nc, r = dial()
	get(nc, r, "/", "")
	for _, c := range h2 {
		if r := c.get("/"); r.body != "HTTP/2.0" {
			t.Errorf("got %v", r)
		}
		go c.hangUp()
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after Shutdown: %v", err)
	}
}

func is[T any](v any) bool {
	_, ok := v.(T)
	return ok
}

// faultyConn panics when it is read after the preface, if it is told to.
type faultyConn struct {
	net.Conn
	faulty *atomic.Bool
}

func (c faultyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.faulty.Load() {
		panic("out of order")
	}
	return n, err
}

func TestPanicOfConnectionIsContained(t *testing.T) {
	var faulty atomic.Bool
	var closed atomic.Int32
	s := newServer(t, http.HandlerFunc(wroteNothing), Config{}, func(s *testServer) {
		s.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				closed.Add(1)
			}
		}
	})
	serveOn(t, s, func(l net.Listener) net.Listener {
		return NewListener(wrappedListener{l, func(nc net.Conn) net.Conn { return faultyConn{nc, &faulty} }})
	})
	cs := s.dialSome(t, 2)
	faulty.Store(true)
	cs[1].must(cs[1].fr.WritePing(false, [8]byte{}))
	cs[1].hangUp()
	eventually(t, "the connection was given up", func() bool { return s.connections() == 1 && closed.Load() == 1 })
	faulty.Store(false)
	if r := cs[0].get("/"); r.status != "200" {
		t.Errorf("the other connection: %v", r)
	}
	if l := s.log.String(); strings.Count(l, "panic serving") != 1 || !strings.Contains(l, "out of order") || !strings.Contains(l, "readFrames") {
		t.Errorf("log:\n%s", l)
	}
	go cs[0].hangUp()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// newUnixServer serves on a socket in the file system, which has no ports to run out of.
func newUnixServer(t *testing.T, opts ...serverOption) (s *testServer, dial func() *client) {
	s = newServer(t, http.HandlerFunc(wroteNothing), Config{}, opts...)
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if !s.keep {
		ln = NewListener(ln)
	}
	go s.Serve(ln)
	return s, func() *client {
		nc, err := net.Dial("unix", path)
		if err != nil {
			t.Error(err)
			return nil
		}
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		c := newClient(t, nc)
		if err := c.Hello(); err != nil {
			t.Error(err)
		}
		// Once the server has acknowledged the SETTINGS, it has handled them.
		for {
			f, err := c.fr.ReadFrame()
			if err != nil {
				t.Error(err)
				return c
			}
			if f, ok := f.(*http2.SettingsFrame); ok && f.IsAck() {
				return c
			}
		}
	}
}

// heap returns the bytes that live objects and goroutines' stacks take.
func heap() int64 {
	for range 3 { // pools are emptied by the second collection, and stacks shrink in one
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func TestManyConnectionsLeaveNothing(t *testing.T) {
	s, dial := newUnixServer(t)
	connect := func(n int) {
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() {
				for range n / 8 {
					if c := dial(); c != nil {
						c.nc.Close()
					}
				}
			})
		}
		clients.Wait()
		s.gone(t)
		s.engine.workers.releaseIdle()
	}
	connect(400)
	eventually(t, "idle workers end", func() bool { return s.idleWorkers() == 0 })
	goroutines, before := runtime.NumGoroutine(), heap()
	const n = 10_000
	connect(n)
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
	if each := (heap() - before) / n; each > 100 {
		t.Errorf("each connection left %d bytes", each)
	}
}

func TestHandOverSavesMemory(t *testing.T) {
	const n = 200
	cost := func(opts ...serverOption) int64 {
		s, dial := newUnixServer(t, opts...)
		conns := make([]*client, n)
		for i := range 10 { // what is made once
			conns[i] = dial()
		}
		before := heap()
		for i := range conns {
			if conns[i] == nil {
				conns[i] = dial()
			}
		}
		each := (heap() - before) / (n - 10)
		if got := s.connections(); got != n {
			t.Fatalf("%d connections, want %d", got, n)
		}
		for _, c := range conns {
			c.nc.Close()
		}
		s.gone(t)
		return each
	}
	kept, handed := cost(withoutHandOver), cost()
	t.Logf("an idle connection takes %d bytes with its client's, %d without hand-over", handed, kept)
	if handed > kept*7/10 {
		t.Errorf("an idle connection takes %d bytes with its client's, %d without hand-over", handed, kept)
	}
}
