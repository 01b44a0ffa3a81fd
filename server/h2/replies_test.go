package h2

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// goodbye reads until the GOAWAY that names the last stream.
func (c *client) goodbye() {
	c.t.Helper()
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			c.t.Fatal(err)
		}
		c.Answer(f)
		if g, ok := f.(*http2.GoAwayFrame); ok && g.LastStreamID != maxWindow {
			return
		}
	}
}

// On a connection that is to end with its streams, the last one is sent to its end while one behind
// it in the queue has been reset.
func TestLastStreamEndsAheadOfAResetOne(t *testing.T) {
	for _, plain := range []bool{true, false} {
		for _, byClient := range []bool{true, false} {
			t.Run(fmt.Sprintf("plain=%v,client=%v", plain, byClient), func(t *testing.T) {
				var opts []serverOption
				if !plain {
					opts = append(opts, withTLS)
				}
				s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }), Config{}, opts...)
				c := s.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
				a, b := c.request("GET", "/a", true), c.request("GET", "/b", true)
				nextFrame[*http2.MetaHeadersFrame](c)
				nextFrame[*http2.MetaHeadersFrame](c)
				if byClient {
					c.fr.WriteGoAway(0, http2.ErrCodeNo, nil)
				} else {
					go s.Shutdown(context.Background())
				}
				c.goodbye()
				time.Sleep(50 * time.Millisecond) // nobody writes any more
				var batch bytes.Buffer
				fr := http2.NewFramer(&batch, nil)
				fr.WriteWindowUpdate(a, 100)
				fr.WriteWindowUpdate(b, 100)
				fr.WriteRSTStream(b, http2.ErrCodeCancel)
				c.write(batch.Bytes())
				if r := c.read(a); r.body != "hello" {
					t.Errorf("got %v", r)
				}
				if log := s.log.String(); log != "" {
					t.Errorf("log: %s", log)
				}
			})
		}
	}
}

// A PING is no progress: a client that leaves the connection's window at zero is disconnected,
// whatever else it sends.
func TestStallWithoutConnectionWindow(t *testing.T) {
	ended := make(chan error, 1)
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := w.Write(make([]byte, 200_000))
		ended <- err
	}), Config{StallTimeout: 200 * time.Millisecond})
	c := s.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	c.request("GET", "/", true)
	c.fr.WriteSettingsAck()
	go io.Copy(io.Discard, c.nc)
	pings := time.NewTicker(40 * time.Millisecond)
	defer pings.Stop()
	for deadline := time.After(10 * time.Second); ; {
		select {
		case err := <-ended:
			if err == nil {
				t.Error("the reply was sent although there was no window for it")
			}
			return
		case <-pings.C:
			c.fr.WritePing(false, [8]byte{})
		case <-deadline:
			t.Fatal("the handler waits although nothing has moved for 50 times StallTimeout")
		}
	}
}

// Two goroutines can read one body.
func TestBodyOfTwoReaders(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		var mu sync.Mutex
		var got []string
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() {
				p := make([]byte, 1)
				n, _ := r.Body.Read(p)
				mu.Lock()
				defer mu.Unlock()
				got = append(got, string(p[:n]))
			})
		}
		readers.Wait()
		fmt.Fprint(w, len(got[0])+len(got[1]))
	}), Config{})
	for _, ending := range []bool{false, true} {
		c := s.dial(t)
		c.nc.SetDeadline(time.Now().Add(5 * time.Second))
		id := c.request("POST", "/", false)
		nextFrame[*http2.MetaHeadersFrame](c)
		time.Sleep(20 * time.Millisecond) // both wait
		want := "2"
		if ending {
			c.data(id, true, "")
			want = "0"
		} else {
			c.data(id, false, "ab")
		}
		if d := nextFrame[*http2.DataFrame](c); string(d.Data()) != want {
			t.Errorf("ending %v: the readers got %s bytes, want %s", ending, d.Data(), want)
		}
	}
}

// The same fields mean the same request in whatever frames they come, and however often.
func TestOneHeaderBlockInEveryForm(t *testing.T) {
	s := newServer(t, http.HandlerFunc(describe), Config{})
	c := s.dial(t)
	fields := []string{":method", "GET", ":scheme", "http", ":path", "/a?b=c", ":authority", "example.com", "x-a", "1", "te", "trailers"}
	first := c.Block(fields...)
	again := c.Block(fields...)
	if bytes.Equal(first, again) {
		t.Fatal("the encoder does not use its table")
	}
	var want string
	id := uint32(1)
	for round := range 3 {
		for i, send := range []func(block []byte){
			func(block []byte) {
				c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: true})
			},
			func(block []byte) {
				c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: true, PadLength: 7})
			},
			func(block []byte) {
				c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: true,
					Priority: http2.PriorityParam{StreamDep: 0, Weight: 3}})
			},
			func(block []byte) {
				c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:2], EndStream: true})
				c.fr.WriteContinuation(id, true, block[2:])
			},
		} {
			block := again
			if round == 0 && i == 0 {
				block = first
			}
			send(block)
			r := c.read(id)
			if want == "" {
				want = r.body
			}
			if r.status != "200" || r.body != want || !strings.Contains(want, "/a?b=c") {
				t.Errorf("round %d, form %d: %v, want %q", round, i, r, want)
			}
			id += 2
		}
	}
}

// Headers, bodies and trailers are kept in reused memory. Whatever happens to other streams, each
// reply has its own content.
func TestRepliesStayApart(t *testing.T) {
	body := func(tag string, n int) string { return strings.Repeat(tag+";", n/(len(tag)+1)+1)[:n] }
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tag, h := r.Header.Get("X-Tag"), w.Header()
		n, _ := strconv.Atoi(r.Header.Get("X-Length"))
		extra, _ := strconv.Atoi(r.Header.Get("X-Extra"))
		h.Set("X-Tag", tag)
		for i := range extra {
			h.Set(fmt.Sprintf("X-Extra-%d", i), tag)
		}
		switch r.Header.Get("X-Kind") {
		case "flush":
			w.(http.Flusher).Flush()
		case "panic":
			io.WriteString(w, body(tag, n))
			panic(http.ErrAbortHandler)
		case "early":
			w.WriteHeader(http.StatusEarlyHints)
		case "late":
			http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Millisecond))
		case "announce":
			h.Set("Trailer", "X-Announced")
		}
		if _, err := io.WriteString(w, body(tag, n)); err != nil {
			return
		}
		h.Set(http.TrailerPrefix+"X-Trailer", tag)
		h.Set("X-Announced", tag)
	}), Config{resetBurst: 1 << 20, overheadBurst: 1 << 20})

	type call struct {
		tag, kind, method string
		length, extra     int
	}
	check := func(x call, r *reply) {
		if r.status != "" {
			for i := -1; i < x.extra; i++ {
				name := fmt.Sprintf("x-extra-%d", i)
				if i < 0 {
					name = "x-tag"
				}
				if got := r.header[name]; len(got) != 1 || got[0] != x.tag {
					t.Errorf("%+v: %s is %q", x, name, got)
				}
			}
		}
		if !strings.HasPrefix(body(x.tag, x.length), r.body) {
			t.Errorf("%+v: body %q", x, r.body)
		}
		trailer := r.trailer["x-trailer"]
		switch {
		case !r.ended:
			if !r.reset || x.kind != "panic" && x.kind != "late" {
				t.Errorf("%+v: %v", x, r)
			}
		case x.method == "GET" && x.kind != "late" && (len(r.body) != x.length || len(trailer) != 1):
			t.Errorf("%+v: ended with %d bytes, trailer %q", x, len(r.body), trailer)
		case len(trailer) > 0 && trailer[0] != x.tag:
			t.Errorf("%+v: trailer %q", x, trailer)
		}
	}
	var clients sync.WaitGroup
	for k := range 4 {
		clients.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(k), 1))
			for round := range 25 {
				c := s.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: []uint32{0, 3, 100, 65535}[rnd.IntN(4)]})
				c.nc.SetDeadline(time.Now().Add(20 * time.Second))
				calls := make(map[uint32]call)
				var live []uint32
				for i := range 20 {
					x := call{
						tag:    fmt.Sprintf("t%d-%d-%d", k, round, i),
						kind:   []string{"", "", "flush", "panic", "early", "late", "announce"}[rnd.IntN(7)],
						method: []string{"GET", "GET", "HEAD"}[rnd.IntN(3)],
						length: []int{0, 1, 50, 4095, 4096, 4097, 9000}[rnd.IntN(7)],
						extra:  []int{0, 3, 14, 20}[rnd.IntN(4)],
					}
					id := c.request(x.method, "/", true, "x-tag", x.tag, "x-kind", x.kind,
						"x-length", strconv.Itoa(x.length), "x-extra", strconv.Itoa(x.extra))
					calls[id] = x
					if rnd.IntN(4) == 0 {
						c.fr.WriteRSTStream(id, http2.ErrCodeCancel)
					} else {
						live = append(live, id)
					}
				}
				if rnd.IntN(5) == 0 {
					c.nc.Close()
					continue
				}
				time.Sleep(time.Duration(rnd.IntN(3)) * time.Millisecond)
				var batch bytes.Buffer
				fr := http2.NewFramer(&batch, nil)
				for _, id := range live {
					fr.WriteWindowUpdate(id, 20_000)
				}
				c.write(batch.Bytes())
				for id, r := range c.readAll(live...) {
					check(calls[id], r)
				}
				c.nc.Close()
			}
		})
	}
	clients.Wait()
}
