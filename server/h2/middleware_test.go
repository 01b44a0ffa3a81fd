package h2

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// countingConn counts writes.
type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// A handler that flushes between its message and its trailers makes two writes of its reply, and
// one write behind OnePiece.
func TestOnePieceIsOneWrite(t *testing.T) {
	var writes atomic.Int64
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/one-piece" {
			w = OnePiece(w)
		}
		io.WriteString(w, "message")
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
			time.Sleep(50 * time.Millisecond)
		}
		w.Header().Set(http.TrailerPrefix+"X-Trailer", "1")
	}), Config{})
	serveOn(t, s, func(l net.Listener) net.Listener {
		return NewListener(wrappedListener{l, func(nc net.Conn) net.Conn { return countingConn{nc, &writes} }})
	})
	c := s.dial(t)
	c.get("/") // and the preface
	for path, want := range map[string]int64{"/": 2, "/one-piece": 1} {
		before := writes.Load()
		if r := c.get(path); r.body != "message" || r.trailer["x-trailer"] == nil {
			t.Errorf("%s: %v", path, r)
		}
		if n := writes.Load() - before; n != want {
			t.Errorf("%s: the reply left in %d writes, want %d", path, n, want)
		}
	}
}

// A ResponseController finds the engine's writer behind OnePiece.
func TestOnePieceUnwraps(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(OnePiece(w))
		for _, err := range []error{control.Flush(), control.SetWriteDeadline(time.Now().Add(time.Hour))} {
			if err != nil {
				t.Error(err)
			}
		}
	}), Config{})
	if r := s.dial(t).get("/"); r.status != "200" {
		t.Error(r)
	}
}

// Body says how much of a body is there, and whether that is all of it.
func TestBodyTellsWhetherItIsComplete(t *testing.T) {
	type state struct {
		size int64
		ok   bool
	}
	states, goOn := make(chan state), make(chan bool)
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := r.Body.(Body)
		if !ok {
			t.Errorf("%s: the body is a %T", r.Method, r.Body)
			close(states)
			return
		}
		tell := func() {
			size, ok := body.Complete()
			states <- state{size, ok}
		}
		tell()
		<-goOn
		eventually(t, "the rest has come", func() bool { _, ok := body.Complete(); return ok })
		tell()
		io.CopyN(io.Discard, r.Body, 3)
		tell()
		body.Close()
		tell()
	}), Config{})
	c := s.dial(t)
	id := c.request("POST", "/", false)
	c.data(id, false, "hello")
	// The handler starts when there is nothing more to read, which is before the end of this body.
	first := <-states
	if first.ok || first.size != 5 && first.size != 0 {
		t.Errorf("an unfinished body of 5 bytes: %v", first)
	}
	c.data(id, true, " world")
	goOn <- true
	for _, want := range []state{{11, true}, {8, true}, {0, true}} {
		if got := <-states; got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if r := c.read(id); r.status != "200" {
		t.Error(r)
	}
}

// A short reply with a field that wants no Content-Length has none, and others have one.
func TestNoContentLength(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		w.Header().Set(name, "1")
	}), Config{KnownHeaders: []KnownHeader{{Name: "x-framed", NoContentLength: true}, {Name: "X-Other"}}})
	c := s.dial(t)
	for name, want := range map[string]int{"X-Framed": 0, http.TrailerPrefix + "x-framed": 0, "X-Other": 1, "X-Unknown": 1} {
		if r := c.get("/" + name); len(r.header["content-length"]) != want {
			t.Errorf("%s: %v", name, r)
		}
	}
}
