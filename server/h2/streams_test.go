package h2

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

func TestClosedStreamsAreRememberedForATime(t *testing.T) {
	const memory = 10
	var c closedStreams
	c.add(1, closedByUs, 5)
	for id := uint32(3); id < 200; id += 2 {
		c.add(id, closedByEnd, 6)
	}
	c.add(201, closedByPeer, 6)
	for id, want := range map[uint32]closeReason{1: closedByUs, 3: 0, 199: closedByEnd, 201: closedByPeer} {
		if got := c.reason(id); got != want {
			t.Errorf("stream %d: closed by %d, want %d", id, got, want)
		}
	}
	c.expire(14, memory)
	if c.reason(1) != closedByUs {
		t.Error("forgotten too soon")
	}
	c.expire(15, memory)
	if c.reason(1) != 0 || c.resets != nil {
		t.Error("remembered for too long")
	}
	// More than there is room for: the unknown ones are taken for those that were forgotten.
	for id := uint32(1001); id < 1001+2*maxResets+2; id += 2 {
		c.add(id, closedByUs, 20)
	}
	if len(c.resets) > maxResets || cap(c.resets) > 2*maxResets {
		t.Errorf("%d resets are remembered, in room for %d", len(c.resets), cap(c.resets))
	}
	if c.reason(1001) != closedByUs {
		t.Error("a stream was forgotten because there were too many")
	}
	if c.expire(30, memory); c.reason(1001) != 0 {
		t.Error("unknown streams are taken for reset ones for too long")
	}
}

func TestIdleStreams(t *testing.T) {
	table := streamTable{maxID: 7}
	for id, want := range map[uint32]bool{2: true, 5: false, 7: false, 8: true, 9: true} {
		if got := table.idle(id); got != want {
			t.Errorf("stream %d: idle %v", id, got)
		}
	}
}

// A stream that nobody has opened must not be reset (RFC 9113 §5.1, §6.4). What would be an error of
// the stream is one of the connection.
func TestIdleStreamsAreNotReset(t *testing.T) {
	for name, send := range map[string]func(c *client) error{
		"PRIORITY of a stream that depends on itself": func(c *client) error {
			return c.fr.WritePriority(7, http2.PriorityParam{StreamDep: 7})
		},
		"PRIORITY of an even stream that depends on itself": func(c *client) error {
			return c.fr.WritePriority(2, http2.PriorityParam{StreamDep: 2})
		},
		"WINDOW_UPDATE by zero":                   func(c *client) error { return c.fr.WriteWindowUpdate(9, 0) },
		"WINDOW_UPDATE of an even stream by zero": func(c *client) error { return c.fr.WriteWindowUpdate(2, 0) },
		"WINDOW_UPDATE":                           func(c *client) error { return c.fr.WriteWindowUpdate(9, 1) },
		"RST_STREAM":                              func(c *client) error { return c.fr.WriteRSTStream(9, http2.ErrCodeCancel) },
		"RST_STREAM of an even stream":            func(c *client) error { return c.fr.WriteRSTStream(2, http2.ErrCodeCancel) },
		"DATA":                                    func(c *client) error { return c.fr.WriteData(9, true, nil) },
		"DATA of an even stream":                  func(c *client) error { return c.fr.WriteData(2, true, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newServer(t, http.HandlerFunc(wroteNothing), Config{}).dial(t)
			c.get("/")
			c.must(send(c))
			for {
				f, err := c.fr.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				switch f := f.(type) {
				case *http2.RSTStreamFrame:
					t.Fatalf("stream %d was reset", f.StreamID)
				case *http2.GoAwayFrame:
					if f.ErrCode != http2.ErrCodeProtocol {
						t.Errorf("GOAWAY with %v", f.ErrCode)
					}
					return
				}
			}
		})
	}
}

// What a client sends on a stream before it learns that the server has reset it does no harm,
// however many streams it has opened since.
func TestLateFramesOfStreamsThatWereReset(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/abort" {
			panic(http.ErrAbortHandler)
		}
	}), Config{})
	c := s.dial(t)
	withTrailers, withData := c.request("POST", "/abort", false), c.request("POST", "/abort", false)
	c.readAll(withTrailers, withData)
	for range 200 {
		if r := c.get("/"); r.status != "200" {
			t.Fatal(r)
		}
	}
	c.headers(withTrailers, true, "x-sum", "1")
	c.data(withData, true, "late")
	if r := c.get("/"); r.status != "200" {
		t.Errorf("after frames of streams that were reset 200 streams ago: %v", r)
	}
}

// The last stream that a GOAWAY names never rises from one to the next (RFC 9113 §6.8).
func TestLastStreamOfGoAwayNeverRises(t *testing.T) {
	release := make(chan bool)
	defer close(release)
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release }), Config{})
	c := s.dial(t)
	c.request("", "/", true)
	time.Sleep(50 * time.Millisecond)
	go s.Shutdown(context.Background())
	c.goodbye() // names stream 1
	c.request("", "/", true)
	c.request("", "/", true)
	c.must(c.fr.WriteWindowUpdate(0, 0)) // an error of the connection
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if g, ok := f.(*http2.GoAwayFrame); ok && g.ErrCode != http2.ErrCodeNo {
			if g.LastStreamID != 1 {
				t.Errorf("the second GOAWAY names stream %d, the first stream 1", g.LastStreamID)
			}
			return
		}
	}
}

// A handler may change its request while trailers arrive. The race detector sees if the engine
// looks at it.
func TestRequestBelongsToItsHandler(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for end := time.Now().Add(30 * time.Millisecond); time.Now().Before(end); {
			*r = *r.WithContext(context.WithValue(r.Context(), new(int), 1))
		}
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, r.Trailer.Get("X-Sum"))
	}), Config{})
	c := s.dial(t)
	for range 5 {
		id := c.request("POST", "/", false, "trailer", "x-sum")
		time.Sleep(5 * time.Millisecond)
		c.headers(id, true, "x-sum", "1")
		if r := c.read(id); r.body != "1" {
			t.Errorf("got %v", r)
		}
	}
}
