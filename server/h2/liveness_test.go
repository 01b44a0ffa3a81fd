package h2

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// testClock has timeouts of a few ticks, each of another number, so that a test sees which one ran
// out.
var testClock = tickClock{
	period: time.Second, handshake: 5, header: 6, stall: 7, streamIdle: 20, ping: 3, pingTimeout: 4, slowest: 1000,
}

// ticks lets n periods pass, during which the reader goroutine reads nothing.
func (l *liveness) ticks(n int) {
	for range n {
		l.tick()
	}
}

// hears is a read of the socket.
func (l *liveness) hears() { l.input.reads.Add(1) }

func TestLiveness(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(l *liveness)
		want lateReason
	}{
		{"no SETTINGS", func(l *liveness) { l.settled = false; l.ticks(5) }, lateHandshake},
		{"no SETTINGS yet", func(l *liveness) { l.settled = false; l.ticks(4) }, notLate},
		{"half a header", func(l *liveness) { l.input.headerBegins(); l.ticks(7) }, lateHeader},
		{"half a header that more reads do not complete", func(l *liveness) {
			l.input.headerBegins()
			for range 7 {
				l.hears()
				l.input.headerBegins()
				l.tick()
			}
		}, lateHeader},
		{"headers that follow one another", func(l *liveness) {
			for range 20 {
				l.input.headerBegins()
				l.tick()
				l.input.headerEnds()
			}
		}, notLate},
		{"a header that was complete in time", func(l *liveness) { l.input.headerBegins(); l.ticks(5); l.input.headerEnds(); l.ticks(20) }, notLate},
		{"a blocked write", func(l *liveness) { l.writeBegins(); l.ticks(7) }, lateWrite},
		{"writes that block, one after the other", func(l *liveness) {
			for range 20 {
				l.writeBegins()
				l.ticks(6)
				l.writeEnds(10)
			}
		}, notLate},
		{"a PING without an answer", func(l *liveness) { l.ping5(); l.ticks(4) }, latePing},
		{"a PING with a late answer", func(l *liveness) { l.ping5(); l.ticks(3); l.pingAnswered(); l.ticks(4) }, notLate},
		{"a PING and then any other frame", func(l *liveness) { l.ping5(); l.ticks(3); l.hears(); l.ticks(2) }, notLate},
		{"a PING that nobody has written", func(l *liveness) { l.ticks(5); l.pingDue(true); l.ticks(20) }, notLate},
		{"a PING behind a write that blocks", func(l *liveness) { l.ping5(); l.writeBegins(); l.ticks(6) }, notLate},
		{"a PING after a write that blocked", func(l *liveness) {
			l.ping5()
			l.writeBegins()
			l.ticks(6)
			l.writeEnds(0)
			l.ticks(3)
		}, notLate},
		{"a PING behind much output", func(l *liveness) { l.wrote(9500); l.ping5(); l.ticks(4) }, notLate},
		{"a PING behind much output that anybody would have read", func(l *liveness) { l.wrote(9500); l.ping5(); l.ticks(6) }, latePing},
		{"a PING after a sleep", func(l *liveness) { l.wrote(1 << 30); l.slept(time.Hour); l.ping5(); l.ticks(4) }, latePing},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := &liveness{clock: &testClock, settled: true}
			tc.do(l)
			if got := l.late(true); got != tc.want {
				t.Errorf("late for %q, want %q", got, tc.want)
			}
		})
	}
}

func (l *liveness) wrote(n int) { l.writeBegins(); l.writeEnds(n) }

// ping5 lets the peer be silent until a PING is sent.
func (l *liveness) ping5() {
	l.ticks(5)
	if !l.pingDue(true) {
		panic("no PING is due")
	}
	l.wrote(17)
}

func TestPingIsDue(t *testing.T) {
	l := &liveness{clock: &testClock}
	if l.ticks(2); l.pingDue(true) {
		t.Error("before the interval")
	}
	if l.ticks(1); l.pingDue(false) {
		t.Error("without streams")
	}
	if l.writeBegins(); l.pingDue(true) {
		t.Error("while a write is blocked")
	}
	l.ticks(1)
	if l.writeEnds(1); l.pingDue(true) {
		t.Error("when the peer has just taken output")
	}
	if l.ticks(3); !l.pingDue(true) {
		t.Error("none is due after the interval")
	}
	if l.pingDue(true) {
		t.Error("a second one")
	}
}

func TestProgress(t *testing.T) {
	const forever = 1000
	for _, tc := range []struct {
		name  string
		waits waits
		each  uint32 // bytes that move in each tick
		want  int    // ticks until the stream is stuck
	}{
		{"handler", forHandler, 0, forever},
		{"its turn", forTurn, 0, forever},
		{"body", forBody, 0, 7},
		{"body of a byte a tick", forBody, 1, 7},
		{"body of ten bytes a tick", forBody, 10, forever},
		{"window", forWindow, 0, 7},
		{"window of a byte a tick", forWindow, 1, 7},
		{"window of the connection", forConnWindow, 0, 7},
		{"message", forMessage, 0, 20},
		{"message of a byte a tick", forMessage, 1, forever},
		{"rest", forRest, 0, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := &liveness{clock: &testClock}
			var p progress
			p.stuck(l, forHandler, 0)
			var moved uint32
			p.stuck(l, tc.waits, moved)
			ticks := 0
			for ticks < forever {
				l.tick()
				ticks++
				if moved += tc.each; p.stuck(l, tc.waits, moved) {
					break
				}
			}
			if ticks != tc.want {
				t.Errorf("stuck after %d ticks, want %d", ticks, tc.want)
			}
		})
	}
	l := &liveness{clock: &testClock}
	var p progress
	for range 20 {
		l.ticks(4)
		if p.stuck(l, forBody, 0) || p.stuck(l, forWindow, 0) {
			t.Fatal("what it waits for has changed in time")
		}
	}
}

// The payload of a DATA frame is not timed as a header, wherever its nine bytes are cut.
func TestDataWhoseHeaderComesInPieces(t *testing.T) {
	for _, cut := range []int{1, 4, 8, 9} {
		t.Run(fmt.Sprint("cut=", cut), func(t *testing.T) {
			t.Parallel()
			s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n, err := io.Copy(io.Discard, r.Body)
				fmt.Fprint(w, n, err)
			}), Config{headerTimeout: time.Second, PingInterval: -1})
			c := s.dial(t)
			id := c.request("POST", "/", false, "content-length", "1000")
			header := []byte{0, 3, 0xe8, 0, 1, 0, 0, 0, 0}
			binary.BigEndian.PutUint32(header[5:], id)
			c.write(header[:cut])
			time.Sleep(30 * time.Millisecond)
			c.write(header[cut:])
			for range 10 {
				c.write(make([]byte, 100))
				time.Sleep(200 * time.Millisecond) // longer than HeaderTimeout in all
			}
			if r := c.read(id); r.body != "1000 <nil>" {
				t.Errorf("got %v", r)
			}
		})
	}
}

// slowly reads at a rate in bytes per second.
type slowly struct {
	io.Reader
	rate  float64
	read  int
	began time.Time
}

func (s *slowly) Read(p []byte) (int, error) {
	if s.read == 0 {
		s.began = time.Now()
	}
	n, err := s.Reader.Read(p[:min(len(p), 4096)])
	s.read += n
	time.Sleep(time.Duration(float64(s.read)/s.rate*float64(time.Second)) - time.Since(s.began))
	return n, err
}

// smallSockets makes the kernel buffer little, so that a slow reader is noticed soon.
func smallSockets(s *testServer) {
	s.ConnContext = func(ctx context.Context, nc net.Conn) context.Context {
		nc.(*net.TCPConn).SetWriteBuffer(8 << 10)
		return ctx
	}
}

// Replies that wait for their turn behind others, and for a peer that reads slowly, are not stuck.
func TestWaitingForTheTurnIsNoStall(t *testing.T) {
	const streams, size = 30, 16 << 10
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, size)) }),
		Config{StallTimeout: time.Second, outputBuffer: 8 << 10, PingInterval: -1}, smallSockets)
	c := s.dialRaw(t)
	c.nc.(*net.TCPConn).SetReadBuffer(8 << 10)
	c.write([]byte(http2.ClientPreface))
	c.must(c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}))
	c.must(c.fr.WriteWindowUpdate(0, 1<<30))
	ids := make([]uint32, streams)
	for i := range ids {
		ids[i] = c.request("", "/", true)
	}
	fr := http2.NewFramer(c.nc, &slowly{Reader: c.nc, rate: 500 << 10}) // many times StallTimeout in all
	fr.ReadMetaHeaders = c.fr.ReadMetaHeaders
	c.fr = fr
	for id, r := range c.readAll(ids...) {
		if len(r.body) != size || !r.ended {
			t.Errorf("stream %d: %v", id, r)
		}
	}
}

// A client may wait for status 100 for as long as the handler waits before it reads the body.
func TestWaitingForContinueIsNoStall(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(1500 * time.Millisecond)
		b, err := io.ReadAll(r.Body)
		fmt.Fprint(w, string(b), err)
	}), Config{StallTimeout: 500 * time.Millisecond, PingInterval: -1})
	c := s.dial(t)
	id := c.request("POST", "/", false, "content-length", "5", "expect", "100-continue")
	for {
		if h := nextFrame[*http2.MetaHeadersFrame](c); h.PseudoValue("status") == "100" {
			break
		}
	}
	c.data(id, true, "hello")
	if r := c.read(id); r.body != "hello<nil>" {
		t.Errorf("got %v", r)
	}
	// Once it has been asked for the body, it owes it.
	id = c.request("POST", "/", false, "content-length", "5", "expect", "100-continue")
	if r := c.read(id); !r.reset || r.code != http2.ErrCodeCancel {
		t.Errorf("a body that never comes: %v", r)
	}
}

// A peer that reads steadily is not taken for dead while the answer to a PING waits behind what it
// reads, at any rate.
func TestASlowDownloadIsNoDeadPeer(t *testing.T) {
	for _, rate := range []float64{1 << 20, 4 << 20} {
		t.Run(fmt.Sprint(rate/(1<<20), " MB/s"), func(t *testing.T) {
			t.Parallel()
			stats := new(Stats)
			hold := make(chan bool)
			defer close(hold)
			s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Write(make([]byte, int(rate*3)))
				<-hold // the stream is still open when everything has been written
			}), Config{PingInterval: 200 * time.Millisecond, PingTimeout: 600 * time.Millisecond, Stats: stats})
			c := s.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
			c.must(c.fr.WriteWindowUpdate(0, 1<<30))
			c.request("GET", "/", true)
			fr := http2.NewFramer(io.Discard, &slowly{Reader: c.nc, rate: rate})
			for got := 0; got < int(rate*3); {
				f, err := fr.ReadFrame()
				if err != nil {
					t.Fatalf("%d bytes: %v; timed out: %v", got, err, stats.Read().TimedOut)
				}
				switch f := f.(type) {
				case *http2.PingFrame:
					c.must(c.fr.WritePing(true, f.Data))
				case *http2.DataFrame:
					got += int(f.Length)
				}
			}
		})
	}
}

// What has arrived of a request counts as progress only from some bytes on.
func TestAByteNowAndThenIsNoProgress(t *testing.T) {
	s := newServer(t, http.HandlerFunc(attacked), Config{StallTimeout: 200 * time.Millisecond, PingInterval: -1})
	c := s.dial(t)
	body := c.request("POST", "/attack", false, "content-length", "1000")
	var frame bytes.Buffer
	http2.NewFramer(&frame, nil).WriteData(body, false, []byte("x"))
	stop := make(chan bool)
	defer close(stop)
	go func() {
		for range 300 {
			select {
			case <-stop:
				return
			case <-time.After(40 * time.Millisecond):
				c.nc.Write(frame.Bytes())
			}
		}
	}()
	began := time.Now()
	if r := c.read(body); !r.reset || r.code != http2.ErrCodeCancel {
		t.Errorf("got %v", r)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("reset after %v, 50 times StallTimeout", took)
	}
}
