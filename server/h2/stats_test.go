package h2

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

func TestStats(t *testing.T) {
	release := make(chan bool)
	var stats Stats
	if got := stats.Read(); got.Connections != 0 || got.StreamsOpen != 0 {
		t.Errorf("before there is a server: %+v", got)
	}
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			<-release
		}
	}), Config{MaxConcurrentStreams: 1, maxHeaderBytes: 1000, Stats: &stats})
	c := s.dial(t)
	c.get("/")
	if r := c.get("/", "long", strings.Repeat("x", 1200)); r.status != "431" {
		t.Errorf("a long header: %v", r)
	}
	if r := c.read(func() uint32 {
		id := c.NextID
		c.NextID += 2
		c.headers(id, true, ":method", "CONNECT", ":authority", "example.com")
		return id
	}()); r.status == "200" {
		t.Errorf("CONNECT: %v", r)
	}
	waiting := c.request("", "/wait", true)
	if r := c.get("/"); !r.reset {
		t.Errorf("one stream too many: %v", r)
	}
	got := stats.Read()
	if got.Connections != 1 || got.ConnectionsOpen != 1 || got.Streams != 4 || got.StreamsOpen != 1 {
		t.Errorf("connections %d, open %d, streams %d, open %d; want 1, 1, 4, 1", got.Connections, got.ConnectionsOpen, got.Streams, got.StreamsOpen)
	}
	if got.ResetsSent["refused_stream"] != 1 || got.Refused["header_too_large"] != 1 || got.Refused["connect_method"] != 1 {
		t.Errorf("resets sent %v, refused %v", got.ResetsSent, got.Refused)
	}

	c.must(c.fr.WriteRSTStream(waiting, http2.ErrCodeCancel))
	close(release)
	c.must(c.fr.WriteGoAway(0, http2.ErrCode(99), []byte("bye")))
	if g := nextFrame[*http2.GoAwayFrame](c); g.ErrCode != http2.ErrCodeNo {
		t.Errorf("GOAWAY %v", g)
	}
	c.nc.Close()
	eventually(t, "the connection is gone", func() bool { return stats.Read().ConnectionsOpen == 0 })
	eventually(t, "and is no longer added up", func() bool { return s.connections() == 0 })
	got = stats.Read()
	if got.Connections != 1 || got.Streams != 4 || got.StreamsOpen != 0 {
		t.Errorf("at the end: connections %d, streams %d, open %d; want 1, 4, 0", got.Connections, got.Streams, got.StreamsOpen)
	}
	if got.ResetsReceived["cancel"] != 1 || got.GoAwaysReceived["other"] != 1 || got.GoAwaysSent["no_error"] != 1 {
		t.Errorf("resets received %v, GOAWAYs received %v, sent %v", got.ResetsReceived, got.GoAwaysReceived, got.GoAwaysSent)
	}

	bad := s.dial(t)
	bad.data(1, true, "on an idle stream")
	if code := bad.goAway(); code != http2.ErrCodeProtocol {
		t.Errorf("DATA on an idle stream: %v", code)
	}
	if got := stats.Read().GoAwaysSent["protocol_error"]; got != 1 {
		t.Errorf("%d GOAWAYs with PROTOCOL_ERROR sent, want 1", got)
	}
}

func TestStatsSayWhatWasTooLate(t *testing.T) {
	tests := map[string]struct {
		cfg  Config
		send func(*client)
	}{
		"handshake": {Config{handshakeTimeout: 50 * time.Millisecond}, func(c *client) { c.write([]byte(http2.ClientPreface)) }},
		"header": {Config{headerTimeout: 50 * time.Millisecond}, func(c *client) {
			c.write([]byte(http2.ClientPreface))
			c.must(c.fr.WriteSettings())
			c.write([]byte{0, 0, 100, 1, 4})
		}},
		"ping": {Config{PingInterval: 50 * time.Millisecond, PingTimeout: 50 * time.Millisecond}, func(c *client) {
			c.write([]byte(http2.ClientPreface))
			c.must(c.fr.WriteSettings())
			c.request("", "/wait", true)
		}},
	}
	for reason, test := range tests {
		t.Run(reason, func(t *testing.T) {
			var stats Stats
			test.cfg.Stats = &stats
			done := make(chan bool)
			defer close(done)
			s := newServer(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }), test.cfg)
			test.send(s.dialRaw(t))
			eventually(t, "the connection is gone", func() bool { return stats.Read().Connections == 1 && s.connections() == 0 })
			for name, n := range stats.Read().TimedOut {
				if want := name == reason; (n == 1) != want {
					t.Errorf("%d timeouts of the %s", n, name)
				}
			}
		})
	}
}
