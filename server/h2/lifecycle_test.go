package h2

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

func TestShutdownFinishesStreams(t *testing.T) {
	for _, answersPing := range []bool{true, false} {
		started, release := make(chan bool, 1), make(chan bool)
		s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				started <- true
				<-release
			}
			io.WriteString(w, r.URL.Path)
		}), Config{})
		c := s.dial(t)
		slow := c.request("", "/slow", true)
		<-started
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(t.Context()) }()
		if g := nextFrame[*http2.GoAwayFrame](c); g.LastStreamID != maxWindow || g.ErrCode != http2.ErrCodeNo {
			t.Errorf("first GOAWAY: %v", g)
		}
		// A request that was on its way when the server sent GOAWAY is still served.
		crossed := c.request("", "/crossed", true)
		if answersPing {
			ping := nextFrame[*http2.PingFrame](c)
			c.fr.WritePing(true, ping.Data)
		}
		var last *http2.GoAwayFrame
		replies := map[uint32]*reply{slow: {header: fields{}}, crossed: {header: fields{}}}
		var sawCrossed, sawSlow bool
		for !sawSlow || !sawCrossed {
			f, err := c.fr.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if g, ok := f.(*http2.GoAwayFrame); ok {
				g := *g
				last = &g
				close(release)
			} else if r := replies[f.Header().StreamID]; r != nil && r.take(f) {
				sawSlow, sawCrossed = sawSlow || r.body == "/slow", sawCrossed || r.body == "/crossed"
			}
		}
		if last == nil || last.LastStreamID != crossed {
			t.Errorf("last GOAWAY: %v", last)
		}
		if _, err := c.fr.ReadFrame(); err != io.EOF {
			t.Errorf("after the last reply: %v", err)
		}
		c.nc.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestConnectionCloseHeaderShutsDown(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		io.WriteString(w, "bye")
	}), Config{})
	c := s.dial(t)
	if r := c.get("/"); r.body != "bye" || len(r.header["connection"]) != 0 {
		t.Errorf("got %v", r)
	}
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			break
		}
		c.Answer(f)
	}
}

func TestConnStates(t *testing.T) {
	var mu sync.Mutex
	var states []http.ConnState
	s := newServer(t, http.HandlerFunc(wroteNothing), Config{}, func(s *testServer) {
		s.ConnState = func(_ net.Conn, state http.ConnState) {
			mu.Lock()
			defer mu.Unlock()
			states = append(states, state)
		}
	})
	c := s.dial(t)
	c.get("/")
	c.nc.Close()
	want := []http.ConnState{http.StateNew, http.StateActive, http.StateIdle, http.StateActive, http.StateIdle, http.StateClosed}
	eventually(t, "states", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Equal(states, want)
	})
}

// Config.Idle hears of every change, and what it is given closes a connection without losing the
// request that crosses the GOAWAY.
func TestIdleHook(t *testing.T) {
	type key struct{}
	for _, opts := range [][]serverOption{nil, {withoutHandOver}, {withTLS}} {
		changes, shutdowns := make(chan bool, 10), make(chan func(), 1)
		release := make(chan struct{})
		s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-release
			}
			io.WriteString(w, r.URL.Path)
		}), Config{Idle: func(ctx context.Context, shutdown func()) func(bool) {
			if ctx.Value(key{}) != "of the connection" {
				t.Error("Idle got another context than that of the connection")
			}
			shutdowns <- shutdown
			return func(idle bool) { changes <- idle }
		}}, append(opts, func(s *testServer) {
			s.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
				return context.WithValue(ctx, key{}, "of the connection")
			}
		})...)
		c := s.dial(t)
		shutdown := <-shutdowns
		want := func(what string, changed ...bool) {
			t.Helper()
			for _, idle := range changed {
				if got := <-changes; got != idle {
					t.Errorf("%s: idle is %v, want %v", what, got, idle)
				}
			}
		}
		c.get("/")
		want("a request", false, true)
		slow := c.request("", "/slow", true)
		want("a request that runs", false)
		if r := c.get("/"); r.body != "/" {
			t.Errorf("got %v", r)
		}
		close(release)
		if r := c.read(slow); r.body != "/slow" {
			t.Errorf("got %v", r)
		}
		want("the end of two requests", true)
		shutdown()
		nextFrame[*http2.GoAwayFrame](c)
		if r := c.get("/crosses"); r.body != "/crosses" {
			t.Errorf("the request that crosses the GOAWAY: %v", r)
		}
		want("a request that crosses the GOAWAY", false, true)
		for {
			f, err := c.fr.ReadFrame()
			if err == io.EOF {
				break
			}
			c.must(err)
			c.Answer(f)
		}
	}
}

// A shutdown does not wait for the rest of a request that has been answered (RFC 9113 §8.1): neither
// if the reply came before it nor if it comes after.
func TestShutdownDoesNotWaitForTheRestOfARequest(t *testing.T) {
	for _, before := range []bool{true, false} {
		started, release := make(chan struct{}), make(chan struct{})
		s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(started)
			<-release
			io.WriteString(w, "answered")
		}), Config{})
		c := s.dial(t)
		id := c.request("POST", "/", false)
		<-started
		if before {
			close(release)
			if r := c.read(id); r.body != "answered" {
				t.Fatalf("got %v", r)
			}
		}
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(t.Context()) }()
		nextFrame[*http2.GoAwayFrame](c)
		if !before {
			close(release)
		}
		ping := nextFrame[*http2.PingFrame](c)
		data := ping.Data
		for reset := false; !reset; {
			f, err := c.fr.ReadFrame()
			c.must(err)
			switch f := f.(type) {
			case *http2.GoAwayFrame:
				t.Fatalf("reply before the shutdown %v: the second GOAWAY came first", before)
			case *http2.RSTStreamFrame:
				if reset = true; f.StreamID != id || f.ErrCode != http2.ErrCodeNo {
					t.Errorf("reply before the shutdown %v: got %v", before, f)
				}
			}
		}
		c.must(c.fr.WritePing(true, data))
		nextFrame[*http2.GoAwayFrame](c)
		if _, err := c.fr.ReadFrame(); err != io.EOF {
			t.Errorf("reply before the shutdown %v: after the last GOAWAY: %v", before, err)
		}
		c.nc.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
