package h2

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// Whatever is sent or left unread, the account stays within its size, and a caller from another
// address is answered.
func TestConnectionsHoldNoMoreThanTheMemory(t *testing.T) {
	const size = 8 << 20
	long := strings.Repeat("x", 200<<10)
	wide := http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}
	for _, attack := range []struct {
		name     string
		settings []http2.Setting
		do       func(c *client)
	}{
		{"streams without bodies", nil, func(c *client) {
			for range 240 {
				c.request("POST", "/wait", false)
			}
		}},
		{"long headers", nil, func(c *client) {
			for range 240 {
				c.request("GET", "/wait", true, "x-long", long[:8<<10])
			}
		}},
		{"cookies", nil, func(c *client) {
			for range 240 {
				c.request("GET", "/wait", true, "cookie", long[:4<<10], "cookie", long[:4<<10])
			}
		}},
		{"bodies that nobody reads", nil, func(c *client) {
			for range 4 {
				id := c.request("POST", "/wait", false)
				for range 15 {
					c.data(id, false, long[:minFrameSize])
				}
			}
		}},
		{"long replies that nobody reads", []http2.Setting{wide}, func(c *client) {
			c.fr.WriteWindowUpdate(0, 1<<30)
			for range 100 {
				c.request("GET", "/long", true)
			}
		}},
		{"short replies that nobody reads", []http2.Setting{{ID: http2.SettingInitialWindowSize}}, func(c *client) {
			for range 240 {
				c.request("GET", "/short", true)
			}
		}},
		{"header blocks that do not end", nil, func(c *client) {
			c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
			c.fr.WriteContinuation(1, false, []byte(strings.Repeat("\x82", minFrameSize)))
		}},
		{"frames that do not end", nil, func(c *client) {
			c.nc.Write(append(appendFrameHeader(nil, minFrameSize, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1), long[:minFrameSize-1]...))
		}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			release := make(chan struct{})
			s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/wait":
					select {
					case <-release:
					case <-r.Context().Done():
					}
				case "/long":
					io.WriteString(w, long)
				case "/short":
					io.WriteString(w, "short")
				}
			}), Config{MaxMemory: size})
			defer close(release)
			high := int64(0)
			watch := func() { high = max(high, s.engine.memory.used.Load()) }
			for i := range 40 { // each from an address of its own
				nc, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(3+i))}}).Dial("tcp", s.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				nc.(*net.TCPConn).SetReadBuffer(4 << 10)
				nc.SetWriteDeadline(time.Now().Add(10 * time.Second))
				c := newClient(t, nc)
				// A connection may be closed at any time, so errors are of no interest.
				io.WriteString(nc, http2.ClientPreface)
				c.fr.WriteSettings(attack.settings...)
				attack.do(c)
				watch()
			}
			eventually(t, "much is charged", func() bool { watch(); return high >= size/8 })
			other, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			c := newClient(t, other)
			io.WriteString(other, http2.ClientPreface)
			c.fr.WriteSettings()
			c.nc.SetDeadline(time.Now().Add(20 * time.Second))
			for range 20 {
				if r := c.get("/short"); string(r.body) != "short" {
					t.Fatalf("another caller: %v", r)
				}
				watch()
			}
			// Two connections at once may each be given the last buffer.
			if most := int64(size + 4*hugeBuffer); high > most {
				t.Errorf("%d bytes were charged, of a memory of %d", high, size)
			}
		})
	}
}

// A connection that was busy once, and is quiet since, is charged for no more than its open streams.
func TestAQuietConnectionKeepsNoReadBuffer(t *testing.T) {
	for _, open := range []int{0, 1} {
		release := make(chan struct{})
		s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wait" {
				<-release
			}
		}), Config{StallTimeout: 200 * time.Millisecond}) // ticks every 50 ms
		c := s.dial(t)
		for range open {
			c.request("GET", "/wait", true)
		}
		for range 3 {
			id := c.request("POST", "/", false)
			for range 4 {
				c.data(id, false, strings.Repeat("x", minFrameSize))
			}
			c.data(id, true, "")
			c.read(id)
		}
		eventually(t, "the read buffer is released", func() bool { return s.engine.memory.used.Load() < StreamCost*int64(open)+1024 })
		if r := c.get("/"); r.status != "200" {
			t.Errorf("after that: %v", r)
		}
		close(release)
	}
}
