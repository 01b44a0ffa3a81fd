package h2

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// ownProtocol replies to a header that is too large with what it can see of the request.
func ownProtocol(w http.ResponseWriter, r *http.Request) {
	if t := r.Header.Get("Content-Type"); t != "application/own" {
		HeaderTooLarge(w, r)
		return
	}
	w.Header().Set("X-Own", fmt.Sprint(len(r.Header["Content-Type"])))
}

// A header over the limit refuses its own request alone, in the protocol of that request, wherever
// in the header the client says which that is.
func TestHeaderOverTheLimitEndsItsOwnCallAlone(t *testing.T) {
	const limit = 4 << 10
	started, release := make(chan bool, 1), make(chan bool)
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/watch" {
			started <- true
			<-release
			io.WriteString(w, "still here")
		}
	}), Config{maxHeaderBytes: limit, HeaderTooLarge: ownProtocol})
	c := s.dial(t)
	watch := c.request("", "/watch", true)
	<-started
	var values []string
	for i := range 8 {
		values = append(values, fmt.Sprint("x-", i), strings.Repeat("~", 1000))
	}
	own := []string{"content-type", "application/own"}
	for name, test := range map[string]struct {
		fields []string
		own    bool
	}{
		"one long value":                        {[]string{"x-long", strings.Repeat("~", 3*limit)}, false},
		"many values":                           {values, false},
		"content-type before":                   {append(own, values...), true},
		"content-type after":                    {append(values, own...), true},
		"content-type after many small fields":  {append(strings.Fields(strings.Repeat("x-a b ", 300)), own...), true},
		"content-type before and after":         {append(append(own, values...), own...), true},
		"content-type with a forbidden value":   {append(values, "content-type", "application/own\n"), false},
		"content-type that is itself too long":  {append(values, "content-type", strings.Repeat("~", limit)), false},
		"the first field that is not accounted": {append(strings.Fields(strings.Repeat("x-a b ", limit/36)), own...), true},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := c.open(true, test.fields...)
			c.must(err)
			r := c.read(id)
			switch {
			case test.own && (r.status != "200" || fmt.Sprint(r.header["x-own"]) != "[1]"):
				t.Errorf("want the protocol's own answer with one Content-Type, got %v", r)
			case !test.own && r.status != "431":
				t.Errorf("want status 431, got %v", r)
			}
		})
	}
	close(release)
	if r := c.read(watch); r.body != "still here" {
		t.Errorf("the other call: %v", r)
	}
}

// A header block that is too long to be worth decoding ends the connection, and the client is told
// why.
func TestHeaderBlockBeyondReasonEndsTheConnection(t *testing.T) {
	for name, value := range map[string]string{
		"one field":                          strings.Repeat("~", 100<<10),
		"one field that Huffman's code fits": strings.Repeat("a", 200<<10),
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, http.HandlerFunc(wroteNothing), Config{maxHeaderBytes: 4 << 10})
			c := s.dial(t)
			c.open(true, "x-long", value)
			for {
				f, err := c.fr.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				if g, ok := f.(*http2.GoAwayFrame); ok {
					if g.ErrCode != http2.ErrCodeEnhanceYourCalm || string(g.DebugData()) != errBlockTooLarge.reason {
						t.Errorf("GOAWAY with %v, %q", g.ErrCode, g.DebugData())
					}
					break
				}
			}
			eventually(t, "nothing is charged any more", func() bool { return s.engine.memory.used.Load() == 0 })
		})
	}
}

// Long header blocks that never end are bounded for all connections together.
func TestLongBlocksAreBounded(t *testing.T) {
	s := newServer(t, http.HandlerFunc(wroteNothing), Config{maxHeaderBytes: 1 << 20, MaxMemory: 16 << 20})
	for range 5 {
		c := s.dial(t)
		c.nc.SetDeadline(time.Now().Add(5 * time.Second))
		c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, 0)})
		for range 230 {
			c.fr.WriteContinuation(1, false, []byte(strings.Repeat("\x82", minFrameSize)))
		}
	}
	eventually(t, "one connection too many is closed", func() bool { return s.connections() < 5 })
	if n := s.engine.memory.used.Load(); n > 16<<20 {
		t.Errorf("%d bytes are charged", n)
	}
}

// Fields of a byte each cost what they weigh: their number is bounded, and so is the memory for
// many values of few names.
func TestManySmallFields(t *testing.T) {
	got := make(chan http.Header, 1)
	s := newServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got <- r.Header
		io.Copy(io.Discard, r.Body) // so that the reply comes after the trailers
	}), Config{})
	c := s.dial(t)
	send := func(n int) reply {
		block := bytes.NewBuffer(c.Block(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"))
		for range n {
			block.WriteByte(0x80 | 19) // accept-encoding is 16, accept 19 in the static table
		}
		id := c.NextID
		c.NextID += 2
		c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}))
		return c.read(id)
	}
	if r := send(250); r.status != "200" {
		t.Fatalf("250 fields: %v", r)
	}
	header := <-got
	if n, room := len(header["Accept"]), cap(header["Accept"]); n != 250 || room != 250 {
		t.Errorf("%d values in room for %d", n, room)
	}
	if r := send(257); r.status != "431" {
		t.Errorf("257 fields: %v", r)
	}
	id := c.request("POST", "/", false)
	trailers := make([]string, 2*257)
	for i := range trailers {
		trailers[i] = "x"
	}
	c.headers(id, true, trailers...)
	if r := c.read(id); !r.reset || r.code != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("257 trailers: %v", r)
	}
}
