package h2

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// A reply that needs no window is sent although another stream waits for the connection's.
func TestAReplyThatNeedsNoWindowIsNotHeldUp(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big" {
			w.Write(make([]byte, 200_000))
			return
		}
		time.Sleep(200 * time.Millisecond)
		w.WriteHeader(204)
	}), Config{})
	c := s.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	c.request("GET", "/big", true)
	c.fr.WriteSettingsAck()
	got := 0
	for got < 65535 {
		got += int(nextData(c))
	}
	c.request("GET", "/none", true)
	c.nc.SetDeadline(time.Now().Add(10 * time.Second))
	if h := nextFrame[*http2.MetaHeadersFrame](c); h.PseudoValue("status") != "204" {
		t.Errorf("got %v", h)
	}
}

func nextData(c *client) uint32 {
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			c.t.Fatal(err)
		}
		if d, ok := f.(*http2.DataFrame); ok {
			return d.Length
		}
	}
}

// After the final header, a status 100 would be taken for trailers.
func TestNoContinueAfterTheReply(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		io.Copy(io.Discard, r.Body)
	}), Config{})
	c := s.dial(t)
	id := c.request("POST", "/", false, "expect", "100-continue")
	h := nextFrame[*http2.MetaHeadersFrame](c)
	if h.PseudoValue("status") != "200" {
		t.Errorf("got %v", h)
	}
	c.nc.SetReadDeadline(time.Now().Add(time.Second))
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			return
		}
		if h, ok := f.(*http2.MetaHeadersFrame); ok && h.StreamID == id {
			t.Fatalf("HEADERS with status %s after the final one", h.PseudoValue("status"))
		}
	}
}

// The write timeout no longer counts once the reply is written, whatever the client still sends.
func TestWriteTimeoutSparesACompleteReply(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }), Config{}, func(s *testServer) { s.WriteTimeout = 300 * time.Millisecond })
	c := s.dial(t)
	id := c.request("POST", "/", false)
	r := c.read(id)
	if r.body != "ok" {
		t.Errorf("got %v", r)
	}
	rst := nextFrame[*http2.RSTStreamFrame](c)
	if rst.ErrCode != http2.ErrCodeNo {
		t.Fatalf("reply complete, then RST_STREAM %v", rst.ErrCode)
	}
}

// A connection without streams is idle, however often its peer sends a PING.
func TestPingsAreNoActivity(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}), Config{idleTimeout: 400 * time.Millisecond})
	c := s.dial(t)
	go func() {
		for {
			time.Sleep(150 * time.Millisecond)
			if c.fr.WritePing(false, [8]byte{}) != nil {
				return
			}
		}
	}()
	c.sentAway()
}

// sentAway waits for a GOAWAY, 25 times as long as the IdleTimeout of the tests above and below,
// and answers nothing.
func (c *client) sentAway() {
	c.t.Helper()
	c.nc.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			c.t.Fatalf("25 times IdleTimeout: %v", err)
		}
		if f.Header().Type == http2.FrameGoAway {
			return
		}
	}
}

// A connection on which a frame is always partly sent is idle too.
func TestPartsOfFramesAreNoActivity(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}), Config{idleTimeout: 400 * time.Millisecond})
	c := s.dial(t)
	go func() {
		frame := []byte{0, 0, 0, 0xbe, 0, 0, 0, 0, 0} // of unknown type: no answer
		p := frame[:4]
		for {
			if _, err := c.nc.Write(p); err != nil {
				return
			}
			time.Sleep(150 * time.Millisecond)
			p = append(append([]byte{}, frame[4:]...), frame[:4]...)
		}
	}()
	c.sentAway()
}

// What the peer sends after the server's half-close must not make the server close the connection
// while the last reply is on its way.
func TestPingAfterHalfCloseLosesNothing(t *testing.T) {
	for _, ping := range []bool{false, true} {
		t.Run(fmt.Sprint("ping=", ping), func(t *testing.T) {
			const size = 1_500_000
			done := make(chan bool)
			s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Write(make([]byte, size))
				close(done)
			}), Config{})
			nc, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			nc.(*net.TCPConn).SetReadBuffer(64 << 10)
			c := newClient(t, nc)
			nc.SetDeadline(time.Now().Add(10 * time.Second))
			t.Cleanup(func() { nc.Close() })
			c.write([]byte(http2.ClientPreface))
			c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
			c.fr.WriteSettingsAck()
			c.fr.WriteWindowUpdate(0, 1<<30)
			id := c.request("GET", "/", true)
			c.fr.WriteGoAway(0, http2.ErrCodeNo, nil)
			c.fr.WritePing(true, shutdownPing)
			<-done
			time.Sleep(300 * time.Millisecond)
			if !ping {
				c.fr.WriteWindowUpdate(0, 1000)
				time.Sleep(50 * time.Millisecond)
			}
			if ping {
				c.fr.WritePing(false, [8]byte{})
				time.Sleep(50 * time.Millisecond)
				c.fr.WriteWindowUpdate(0, 1000)
				time.Sleep(50 * time.Millisecond)
			}
			got := 0
			for {
				f, err := c.fr.ReadFrame()
				if err != nil {
					t.Fatalf("%d of %d bytes: %v", got, size, err)
				}
				if d, ok := f.(*http2.DataFrame); ok && d.StreamID == id {
					got += len(d.Data())
					if d.StreamEnded() {
						return
					}
				}
			}
		})
	}
}

// A stream that was reset while it waited for the output buffer is forgotten.
func TestResetStreamsLeaveTheQueue(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big" {
			w.Write(make([]byte, 64<<20))
			return
		}
		io.WriteString(w, "hello")
	}), Config{MaxConcurrentStreams: 10})
	c := s.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	c.fr.WriteSettingsAck()
	c.fr.WriteWindowUpdate(0, 1<<30)
	c.request("GET", "/big", true)
	time.Sleep(time.Second) // the socket is full now; nobody reads
	for range 1500 {
		id := c.request("GET", "/", true)
		time.Sleep(100 * time.Microsecond)
		if err := c.fr.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(200 * time.Millisecond)
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	for c := range s.engine.conns {
		c.mu.Lock()
		if c.out.ready.n > 10 {
			t.Errorf("%d streams queued, MaxConcurrentStreams 10", c.out.ready.n)
		}
		c.mu.Unlock()
	}
}

// Frames of a stream beyond the GOAWAY are ignored, and the calls that run go on (RFC 9113 §6.8).
func TestTrailersBeyondGoAwayAreIgnored(t *testing.T) {
	release := make(chan bool)
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release; io.WriteString(w, "hello") }), Config{})
	c := s.dial(t)
	a := c.request("GET", "/a", true)
	time.Sleep(100 * time.Millisecond)
	go s.Shutdown(context.Background())
	c.goodbye()
	b := c.request("POST", "/b", false)
	c.headers(b, true, "x-sum", "1")
	time.Sleep(100 * time.Millisecond)
	close(release)
	if r := c.read(a); r.body != "hello" {
		t.Fatalf("running call: %v", r)
	}
}

// A PING waits behind earlier output, so a peer that is still reading that output is alive.
func TestADownloadIsNoDeadPeer(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, 12<<20))
	}), Config{PingInterval: 400 * time.Millisecond, PingTimeout: 600 * time.Millisecond})
	c := s.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	c.fr.WriteSettingsAck()
	c.fr.WriteWindowUpdate(0, 1<<30)
	c.request("GET", "/", true)
	got := 0
	start := time.Now()
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			t.Fatalf("%d bytes in %v: %v; timed out: %v", got, time.Since(start), err, s.engine.stats.Read().TimedOut)
		}
		switch f := f.(type) {
		case *http2.PingFrame:
			if !f.IsAck() {
				c.fr.WritePing(true, f.Data)
			}
		case *http2.DataFrame:
			got += int(f.Length)
			time.Sleep(4 * time.Millisecond) // 4 MB/s
			if f.StreamEnded() {
				return
			}
		}
	}
}

// Limits that are computed from MaxConcurrentStreams do not overflow.
func TestAnyNumberOfStreams(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}), Config{MaxConcurrentStreams: 1 << 30})
	c := s.dial(t)
	if r := c.get("/"); r.status != "200" {
		t.Fatal(r)
	}
}
