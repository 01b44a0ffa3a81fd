package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// A handler that sends informational replies waits for a peer that does not read them.
func TestInformationalRepliesWaitForThePeer(t *testing.T) {
	var sent atomic.Int64
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", strings.Repeat("x", 1000))
		for r.Context().Err() == nil && sent.Load() < 50_000 {
			w.Header().Set("X-Request-Id", fmt.Sprint(sent.Load()))
			w.WriteHeader(http.StatusEarlyHints)
			sent.Add(1)
		}
	}), Config{}, smallSockets)
	c := s.dialRaw(t)
	c.nc.(*net.TCPConn).SetReadBuffer(4 << 10)
	c.write([]byte(http2.ClientPreface))
	c.must(c.fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}))
	c.request("", "/", true)
	eventually(t, "the first are sent", func() bool { return sent.Load() > 0 })
	var before int64
	eventually(t, "the handler waits", func() bool {
		time.Sleep(100 * time.Millisecond)
		now := sent.Load()
		waits := now == before
		before = now
		return waits
	})
	if before > 5000 {
		t.Errorf("%d informational replies were taken from the handler, and none was read", before)
	}
	// They are all there, in order, once the peer reads.
	for i := range before {
		h := nextFrame[*http2.MetaHeadersFrame](c)
		if last := h.Fields[len(h.Fields)-1]; h.PseudoValue("status") != "103" || last.Value != fmt.Sprint(i) {
			t.Fatalf("reply %d has status %s, %v", i, h.PseudoValue("status"), last)
		}
	}
}

// What a handler changes of its goroutine does not reach the next handler on it.
func TestGoroutinesAreReset(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/label" {
			pprof.SetGoroutineLabels(pprof.WithLabels(r.Context(), pprof.Labels("tenant", "alice")))
			return
		}
		var all bytes.Buffer
		pprof.Lookup("goroutine").WriteTo(&all, 1)
		for part := range strings.SplitSeq(all.String(), "\n\n") {
			if strings.Contains(part, "TestGoroutinesAreReset") && strings.Contains(part, "alice") {
				fmt.Fprint(w, "labelled")
			}
		}
	}), Config{})
	c := s.dial(t)
	for range 5 {
		c.get("/label")
		eventually(t, "the worker is idle", func() bool { return s.idleWorkers() > 0 })
		if r := c.get("/other"); r.body != "" {
			t.Fatal("the handler of another request has the label of the one before")
		}
	}
}

// A handler may name its fields in any case. What must not be sent is not sent (RFC 9113 §8.2.2),
// and what the engine sends itself is sent once.
func TestNamesInAnyCase(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		if r.URL.Path == "/early" {
			for _, name := range []string{"connection", "Transfer-encoding", "content-length", "UPGRADE"} {
				h[name] = []string{"1"}
			}
			w.WriteHeader(http.StatusEarlyHints)
			clear(h)
			return
		}
		for _, name := range []string{"keep-alive", "Keep-alive", "proxy-connection", "transfer-encoding", "TRANSFER-ENCODING", "upgrade", "Upgrade"} {
			h[name] = []string{"x"}
		}
		h["connection"] = []string{"keep-alive"}
		h["content-length"] = []string{"3"}
		h["content-TYPE"] = []string{"text/own"}
		h["date"] = []string{"today"}
		h["trailer"] = []string{"x-sum"}
		w.Write([]byte("abc"))
		h["X-Sum"] = []string{"1"}
		h[http.TrailerPrefix+"transfer-encoding"] = []string{"chunked"}
	}), Config{})
	c := s.dial(t)
	want := fields{"content-length": {"3"}, "content-type": {"text/own"}, "date": {"today"}, "trailer": {"x-sum"}}
	if r := c.get("/"); fmt.Sprint(r.header) != fmt.Sprint(want) || fmt.Sprint(r.trailer) != "map[x-sum:[1]]" {
		t.Errorf("got %v", r)
	}
	c.request("", "/early", true)
	if h := nextFrame[*http2.MetaHeadersFrame](c); len(h.RegularFields()) != 0 {
		t.Errorf("an informational reply with %v", h.RegularFields())
	}
}

func TestStandardConfig(t *testing.T) {
	set := func(s *testServer) {
		s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 7, MaxReadFrameSize: 1 << 20, MaxReceiveBufferPerStream: 1 << 16}
	}
	for cfg, want := range map[uint32]uint32{0: 7, 9: 9} {
		s := newServer(t, http.HandlerFunc(wroteNothing), Config{MaxConcurrentStreams: cfg}, set)
		f := nextFrame[*http2.SettingsFrame](s.dial(t))
		streams, _ := f.Value(http2.SettingMaxConcurrentStreams)
		frame, _ := f.Value(http2.SettingMaxFrameSize)
		window, _ := f.Value(http2.SettingInitialWindowSize)
		if streams != want || frame != 1<<20 || window != 1<<16 {
			t.Errorf("Config has %d streams: got %d streams, frames of %d bytes, windows of %d", cfg, streams, frame, window)
		}
	}
	for name, std := range map[string]*http.HTTP2Config{
		"WriteByteTimeout":             {WriteByteTimeout: time.Second},
		"PermitProhibitedCipherSuites": {PermitProhibitedCipherSuites: true},
		"CountError":                   {CountError: func(string) {}},
		"MaxEncoderHeaderTableSize":    {MaxEncoderHeaderTableSize: 100},
		"MaxConcurrentStreams":         {MaxConcurrentStreams: -1},
		"MaxReadFrameSize":             {MaxReadFrameSize: 1 << 30},
	} {
		if err := Configure(&http.Server{HTTP2: std}, Config{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Configure(&http.Server{HTTP2: &http.HTTP2Config{MaxEncoderHeaderTableSize: 100, MaxDecoderHeaderTableSize: 100}}, Config{}); err != nil {
		t.Error(err)
	}
}

// What Hijack returns leads to the listener's own connection.
func TestHijackLeadsToTheConnection(t *testing.T) {
	got := make(chan string, 1)
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nc, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		got <- fmt.Sprintf("%T", nc.(interface{ NetConn() net.Conn }).NetConn())
	}), Config{})
	http.Get("http://" + s.addr)
	if kind := <-got; kind != "*net.TCPConn" {
		t.Errorf("a hijacked connection is a %s", kind)
	}
}

// The documentation lists these differences from net/http.
func TestDepartures(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/switch" {
			w.WriteHeader(http.StatusSwitchingProtocols)
		}
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("Hijack: %v", err)
		}
		io.WriteString(w, "ok")
	})
	for _, tc := range []struct {
		name         string
		send         func(c *client) (id uint32)
		ours, theirs string
	}{
		{"a header of 40 KiB", func(c *client) uint32 {
			id := c.NextID
			c.NextID += 2
			block := c.Block(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a", "x-long", strings.Repeat("~", 40<<10))
			c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:minFrameSize], EndStream: true}))
			c.must(c.fr.WriteContinuation(id, false, block[minFrameSize:2*minFrameSize]))
			c.must(c.fr.WriteContinuation(id, true, block[2*minFrameSize:]))
			return id
		}, "[] 431", "[] 200"},
		{"300 fields", func(c *client) uint32 {
			return c.request("GET", "/", true, strings.Fields(strings.Repeat("x-a b ", 300))...)
		}, "[] 431", "[] 200"},
		{"status 101", func(c *client) uint32 { return c.request("GET", "/switch", true) }, "[] 200", "[101] 200"},
		{"CONNECT", func(c *client) uint32 {
			id := c.NextID
			c.NextID += 2
			c.headers(id, true, ":method", "CONNECT", ":authority", "example.com:443")
			return id
		}, "[] 501", "[] 200"},
		{"an early reply", func(c *client) uint32 { return c.request("POST", "/", false) }, "[] 200", "[] 200"},
	} {
		for name, s := range map[string]*testServer{"h2": newServer(t, h, Config{}), "net/http": newOracle(t, h)} {
			want := tc.ours
			if name == "net/http" {
				want = tc.theirs
			}
			c := s.dial(t)
			if r := c.read(tc.send(c)); fmt.Sprint(r.informational, " ", r.status) != want {
				t.Errorf("%s, %s: %v, %v, want %s", tc.name, name, r.informational, r, want)
			}
			if tc.name != "an early reply" {
				continue
			}
			// The stream is reset with NO_ERROR by net/http, and the PING is answered before by us.
			c.must(c.fr.WritePing(false, [8]byte{1}))
			reset := false
			for {
				f, err := c.fr.ReadFrame()
				c.must(err)
				if r, ok := f.(*http2.RSTStreamFrame); ok {
					reset = r.ErrCode == http2.ErrCodeNo
				}
				if p, ok := f.(*http2.PingFrame); ok && p.IsAck() {
					break
				}
			}
			if reset != (name == "net/http") {
				t.Errorf("%s, %s: reset %v", tc.name, name, reset)
			}
		}
	}
}
