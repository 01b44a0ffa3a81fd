package h2

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"example.com/roster/server/h2/h2test"
)

// attack is something a hostile peer does on one connection, and how that must end.
type attack struct {
	name string
	cfg  Config
	// run attacks until the server refuses. It must not fail because the server closes the
	// connection.
	run func(c *client)
	// want is the code of the GOAWAY that ends the connection; reset is the code of the resets;
	// hangUp means that the connection is closed without a GOAWAY, since the peer would not read
	// it.
	want   http2.ErrCode
	reset  http2.ErrCode
	hangUp bool
}

// flood calls f until it fails, at most n times.
func flood(n int, f func(i int) error) {
	for i := range n {
		if f(i) != nil {
			return
		}
	}
}

// open opens a stream and leaves it open, without failing the test when the server has hung up.
func (c *client) open(end bool, kv ...string) (uint32, error) {
	return c.Open(end, append([]string{":method", "POST", ":scheme", "http", ":path", "/attack", ":authority", "a"}, kv...)...)
}

const floodSize = 200_000

// shared is an attack that the benchmarks also make on whole servers.
func shared(key string) func(c *client) {
	i := slices.IndexFunc(h2test.Attacks, func(a h2test.Attack) bool { return a.Key == key })
	a := h2test.Attacks[i]
	r := h2test.Request{Fields: []string{":method", "POST", ":scheme", "http", ":path", "/attack", ":authority", "a"}}
	return func(c *client) {
		if a.Start != nil {
			a.Start(c.Client, r)
		}
		flood(floodSize, func(int) error { return a.Step(c.Client, r) })
	}
}

func attacks() []attack {
	short := 200 * time.Millisecond
	return []attack{
		{name: "rapid reset", want: http2.ErrCodeEnhanceYourCalm, run: shared("rapid-reset")},
		{name: "made you reset, by window updates of zero", want: http2.ErrCodeEnhanceYourCalm, run: func(c *client) {
			flood(floodSize, func(int) error {
				id, err := c.open(false)
				return errors.Join(err, c.fr.WriteWindowUpdate(id, 0))
			})
		}},
		{name: "made you reset, by data after the end", want: http2.ErrCodeEnhanceYourCalm, run: func(c *client) {
			flood(floodSize, func(int) error {
				id, err := c.open(true, "x-slow", "1")
				return errors.Join(err, c.fr.WriteData(id, false, []byte("x")))
			})
		}},
		{name: "made you reset, by malformed requests", want: http2.ErrCodeEnhanceYourCalm, run: func(c *client) {
			flood(floodSize, func(int) error {
				_, err := c.open(true, "connection", "close")
				return err
			})
		}},
		{name: "streams opened and left", want: http2.ErrCodeEnhanceYourCalm, run: shared("streams-left")},
		{name: "PING flood", want: http2.ErrCodeEnhanceYourCalm, run: shared("ping-flood")},
		{name: "SETTINGS flood", want: http2.ErrCodeEnhanceYourCalm, run: shared("settings-flood")},
		{name: "huge SETTINGS", want: http2.ErrCodeEnhanceYourCalm, run: func(c *client) {
			flood(1, func(int) error { return c.fr.WriteSettings(make([]http2.Setting, 2000)...) })
		}},
		{name: "PRIORITY flood", want: http2.ErrCodeEnhanceYourCalm, run: func(c *client) {
			flood(floodSize, func(i int) error { return c.fr.WritePriority(uint32(2*i+1), http2.PriorityParam{StreamDep: 0}) })
		}},
		{name: "WINDOW_UPDATE flood", want: http2.ErrCodeEnhanceYourCalm, run: func(c *client) {
			flood(floodSize, func(int) error { return c.fr.WriteWindowUpdate(0, 1) })
		}},
		{name: "unknown frames", want: http2.ErrCodeEnhanceYourCalm, run: func(c *client) {
			flood(floodSize, func(int) error { return c.fr.WriteRawFrame(0xbe, 0, 0, []byte("x")) })
		}},
		{name: "empty DATA flood", want: http2.ErrCodeEnhanceYourCalm, run: shared("empty-frames")},
		{name: "tiny windows", want: http2.ErrCodeEnhanceYourCalm, run: func(c *client) {
			c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			id, _ := c.open(true)
			flood(floodSize, func(int) error { return c.fr.WriteWindowUpdate(id, 1) })
		}},
		{name: "CONTINUATION flood", want: http2.ErrCodeEnhanceYourCalm, run: shared("continuation-flood")},
		{name: "empty CONTINUATION flood", want: http2.ErrCodeEnhanceYourCalm, run: func(c *client) {
			c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1})
			flood(floodSize, func(int) error { return c.fr.WriteContinuation(1, false, nil) })
		}},
		{name: "header block without bounds", want: http2.ErrCodeEnhanceYourCalm, run: func(c *client) {
			c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.Block(":method", "GET")})
			value := strings.Repeat("v", 1000)
			flood(floodSize, func(int) error { return c.fr.WriteContinuation(1, false, c.Block("x-more", value)) })
		}},
		{name: "body beyond the window", want: http2.ErrCodeFlowControl, run: func(c *client) {
			ids := make([]uint32, 8)
			for i := range ids {
				ids[i], _ = c.open(false)
			}
			data := make([]byte, 16<<10)
			flood(floodSize, func(i int) error { return c.fr.WriteData(ids[i/16%8], false, data) })
		}},
		{name: "PINGs whose answers are not read", hangUp: true,
			cfg: Config{overheadBurst: 1 << 30, maxQueuedControl: 1 << 30, StallTimeout: short},
			run: func(c *client) {
				c.nc.(*net.TCPConn).SetReadBuffer(4 << 10)
				flood(10_000_000, func(int) error { return c.fr.WritePing(false, [8]byte{}) })
			}},
		{name: "many PINGs whose answers are not read", hangUp: true,
			cfg: Config{overheadBurst: 1 << 30, StallTimeout: time.Second},
			run: func(c *client) {
				c.nc.(*net.TCPConn).SetReadBuffer(4 << 10)
				flood(10_000_000, func(int) error { return c.fr.WritePing(false, [8]byte{}) })
			}},
		{name: "zero windows", reset: http2.ErrCodeCancel, cfg: Config{StallTimeout: short}, run: func(c *client) {
			c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			flood(250, func(int) error {
				_, err := c.open(true, "x-reply", "1")
				return err
			})
		}},
		{name: "zero window and a handler with a long reply", reset: http2.ErrCodeCancel, cfg: Config{StallTimeout: short}, run: func(c *client) {
			c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			flood(250, func(int) error {
				_, err := c.open(true, "x-reply", "1000000")
				return err
			})
		}},
		{name: "a byte a minute", reset: http2.ErrCodeCancel, cfg: Config{StallTimeout: short}, run: func(c *client) {
			flood(100, func(int) error {
				id, err := c.open(false, "content-length", "1000")
				return errors.Join(err, c.fr.WriteData(id, false, []byte("x")))
			})
		}},
		{name: "a stream that goes silent", reset: http2.ErrCodeCancel, cfg: Config{streamIdleTimeout: short}, run: func(c *client) {
			id, _ := c.open(false)
			c.fr.WriteData(id, false, []byte("x"))
		}},
		{name: "a reader that stops reading", hangUp: true, cfg: Config{StallTimeout: short}, run: func(c *client) {
			c.nc.(*net.TCPConn).SetReadBuffer(4 << 10)
			c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
			c.fr.WriteWindowUpdate(0, maxWindow-initialWindow)
			flood(100, func(int) error {
				_, err := c.open(true, "x-reply", "1000000")
				return err
			})
		}},
		{name: "half a header block", hangUp: true, cfg: Config{headerTimeout: short}, run: func(c *client) {
			c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.Block(":method", "GET")})
		}},
		{name: "half a frame", hangUp: true, cfg: Config{headerTimeout: short}, run: func(c *client) {
			c.nc.Write([]byte{0, 0, 8})
		}},
		{name: "a peer that is gone", hangUp: true, cfg: Config{PingInterval: short, PingTimeout: short}, run: func(c *client) {
			c.open(false)
		}},
		{name: "bodies that nobody reads", reset: http2.ErrCodeRefusedStream, run: func(c *client) {
			ids := make([]uint32, 250)
			for i := range ids {
				ids[i], _ = c.open(false)
			}
			for _, id := range ids {
				c.fr.WriteData(id, false, make([]byte, 4190)) // together nearly the connection's window
			}
			c.open(false)
		}},
		{name: "requests as large as they may be, left open", reset: http2.ErrCodeRefusedStream, run: func(c *client) {
			value := strings.Repeat("~", 30<<10)
			flood(300, func(int) error {
				_, err := c.open(false, "x-large", value)
				return err
			})
		}},
	}
}

// attacked is the handler under attack: it replies as asked, or reads its request to the end.
func attacked(w http.ResponseWriter, r *http.Request) {
	if n := r.Header.Get("X-Reply"); n != "" {
		chunk := []byte(strings.Repeat("r", 3000))
		for range len(n) * len(n) * 10 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
		return
	}
	if r.URL.Path == "/attack" {
		if r.ContentLength < 0 || r.Header.Get("X-Slow") != "" {
			<-r.Context().Done() // a handler that takes its time
		}
		io.Copy(io.Discard, r.Body)
	}
}

func memoryInUse() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

func TestAttacks(t *testing.T) {
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) { a.test(t) })
	}
}

func (a attack) test(t *testing.T) {
	s := newServer(t, http.HandlerFunc(attacked), a.cfg, func(s *testServer) {
		s.ConnContext = func(ctx context.Context, nc net.Conn) context.Context {
			// The kernel would buffer megabytes before the server noticed that the peer does not
			// read.
			nc.(*net.TCPConn).SetWriteBuffer(16 << 10)
			return ctx
		}
	})
	runtime.GC() // what the last attack left would put off the collection of what this one leaves
	before, goroutines := memoryInUse(), runtime.NumGoroutine()
	stop := make(chan bool)
	var friend, foes sync.WaitGroup
	friend.Go(func() { a.befriend(t, s, stop) })
	stopFriend := sync.OnceFunc(func() {
		close(stop)
		friend.Wait()
	})
	defer stopFriend()
	clients := make([]*client, 4)
	for i := range clients {
		clients[i] = s.dial(t)
		foes.Go(func() { a.attackOnce(t, clients[i]) })
	}
	var peak int64
	over := wait(&foes)
	for attacking := true; attacking; {
		select {
		case <-over:
			attacking = false
		case <-time.After(20 * time.Millisecond):
		}
		peak = max(peak, memoryInUse())
	}
	if a.hangUp {
		eventually(t, "the attackers' connections are closed", func() bool { return s.connections() <= 1 })
	}
	if grown := peak - before; grown > 64<<20 {
		t.Errorf("memory grew by %d MB", grown>>20)
	} else {
		t.Logf("memory grew by %d KB", grown>>10)
	}
	stopFriend()
	for _, c := range clients {
		c.nc.Close()
	}
	// The attack may leave nothing but idle workers.
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines+s.idleWorkers()+8 })
}

func wait(wg *sync.WaitGroup) <-chan bool {
	done := make(chan bool)
	go func() {
		wg.Wait()
		close(done)
	}()
	return done
}

// attackOnce attacks and checks how the connection ends.
func (a attack) attackOnce(t *testing.T, c *client) {
	type end struct {
		goAway, reset http2.ErrCode
		closed        bool
	}
	ended := make(chan end, 1)
	readBy := make(chan bool)
	if a.hangUp {
		// Such peers do not read.
		close(readBy)
		ended <- end{}
	} else {
		go func() {
			defer close(readBy)
			var e end
			for {
				f, err := c.fr.ReadFrame()
				if err != nil {
					var se http2.StreamError
					if errors.As(err, &se) {
						continue
					}
					e.closed = true
					break
				}
				if g, ok := f.(*http2.GoAwayFrame); ok {
					e.goAway = g.ErrCode
					break
				}
				if r, ok := f.(*http2.RSTStreamFrame); ok && a.reset != 0 && r.ErrCode == a.reset {
					e.reset = r.ErrCode
					break
				}
			}
			ended <- e
		}()
	}
	a.run(c)
	<-readBy
	e := <-ended
	if e.goAway != a.want || e.reset != a.reset {
		t.Errorf("ended with GOAWAY %v, reset %v, closed %v; want GOAWAY %v, reset %v", e.goAway, e.reset, e.closed, a.want, a.reset)
	}
}

// befriend sends requests beside the attack, none of which may fail or take long.
func (a attack) befriend(t *testing.T, s *testServer, stop chan bool) {
	hc := httpClient(t, s)
	for calls := 0; ; calls++ {
		select {
		case <-stop:
			if calls > 1 {
				return
			}
		default:
		}
		began := time.Now()
		r, err := hc.Get(s.url("/friend"))
		if err != nil {
			t.Errorf("call beside the attack: %v", err)
			return
		}
		r.Body.Close()
		if took := time.Since(began); took > 10*time.Second { // a busy machine alone can take two
			t.Errorf("call beside the attack took %v", took)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestIdleConnectionIsClosedGracefully(t *testing.T) {
	s := newServer(t, http.HandlerFunc(wroteNothing), Config{idleTimeout: 100 * time.Millisecond})
	c := s.dial(t)
	c.get("/")
	if g := nextFrame[*http2.GoAwayFrame](c); g.ErrCode != http2.ErrCodeNo {
		t.Errorf("got %v", g)
	}
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			break
		}
		c.Answer(f)
	}
}

func TestPrefaceMustComeInTime(t *testing.T) {
	for _, tc := range []struct {
		name string
		tls  bool
		send string
	}{
		{"no SETTINGS", false, http2.ClientPreface},
		{"no preface", true, ""},
		{"half a preface", true, http2.ClientPreface[:10]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var opts []serverOption
			if tc.tls {
				opts = append(opts, withTLS)
			}
			s := newServer(t, http.HandlerFunc(wroteNothing), Config{handshakeTimeout: 100 * time.Millisecond}, opts...)
			c := s.dialRaw(t)
			c.write([]byte(tc.send))
			began := time.Now()
			for {
				if _, err := c.fr.ReadFrame(); err != nil {
					break
				}
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestRunningHandlersCountAfterReset(t *testing.T) {
	release := make(chan bool)
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release }), Config{MaxConcurrentStreams: 3})
	c := s.dial(t)
	for range 3 * handlersPerStream {
		id := c.request("", "/", true)
		c.fr.WriteRSTStream(id, http2.ErrCodeCancel)
	}
	if r := c.get("/"); !r.reset || r.code != http2.ErrCodeRefusedStream {
		t.Errorf("a stream beyond what the handlers of reset ones leave: %v", r)
	}
	close(release)
	eventually(t, "a slot is free", func() bool { return c.get("/").status == "200" })
}
