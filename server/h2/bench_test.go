package h2

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// engines are what every benchmark runs on, to give the ratio.
func engines(b *testing.B, h http.HandlerFunc, run func(b *testing.B, s *testServer)) {
	b.Run("h2", func(b *testing.B) { run(b, newServer(b, h, Config{KnownHeaders: grpcHeaders})) })
	b.Run("net-http", func(b *testing.B) { run(b, newOracle(b, h)) })
}

// grpcLike answers as a gRPC handler does: a message, a flush, trailers.
func grpcLike(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	h := w.Header()
	h["Content-Type"] = []string{"application/grpc"}
	w.Write(make([]byte, 64))
	w.(http.Flusher).Flush()
	h[http.TrailerPrefix+"Grpc-Status"] = []string{"0"}
}

// pump keeps width requests in flight on one connection until left runs out. It speaks frames
// directly and with prepared blocks, so that nearly all that is measured is the server.
func (c *client) pump(b testing.TB, width int, left *atomic.Int64) {
	c.fr.ReadMetaHeaders = nil
	c.fr.SetReuseFrames()
	first := c.block(":method", "POST", ":scheme", "http", ":path", "/MyService/User", ":authority", "localhost",
		"content-type", "application/grpc", "te", "trailers", "user-agent", "bench")
	again := c.block(":method", "POST", ":scheme", "http", ":path", "/MyService/User", ":authority", "localhost",
		"content-type", "application/grpc", "te", "trailers", "user-agent", "bench")
	var out bytes.Buffer
	fw := http2.NewFramer(&out, nil)
	block := first
	start := func() bool {
		if left.Add(-1) < 0 {
			return false
		}
		fw.WriteHeaders(http2.HeadersFrameParam{StreamID: c.next, BlockFragment: block, EndHeaders: true})
		fw.WriteData(c.next, true, []byte("\x00\x00\x00\x00\x04\x0a\x02\x01\x02"))
		c.next += 2
		block = again
		return true
	}
	open, received := 0, uint32(0)
	for range width {
		if start() {
			open++
		}
	}
	for open > 0 {
		if out.Len() > 0 {
			c.nc.Write(out.Bytes())
			out.Reset()
		}
		f, err := c.fr.ReadFrame()
		if err != nil {
			b.Error(err)
			return
		}
		received += f.Header().Length
		if received > 32<<10 {
			fw.WriteWindowUpdate(0, received)
			received = 0
		}
		if t := f.Header().Type; (t == http2.FrameHeaders || t == http2.FrameData) && f.Header().Flags.Has(http2.FlagDataEndStream) {
			open--
			if start() {
				open++
			}
		}
	}
}

func BenchmarkUnary(b *testing.B) {
	for _, shape := range []struct{ conns, streams int }{{1, 1}, {8, 16}, {1, 100}} {
		b.Run(fmt.Sprintf("%dx%d", shape.conns, shape.streams), func(b *testing.B) {
			engines(b, grpcLike, func(b *testing.B, s *testServer) {
				clients := make([]*client, shape.conns)
				for i := range clients {
					clients[i] = s.dial(b)
					clients[i].nc.SetDeadline(time.Time{})
				}
				b.ReportAllocs()
				b.ResetTimer()
				var left atomic.Int64
				left.Store(int64(b.N))
				var wg sync.WaitGroup
				for _, c := range clients {
					wg.Go(func() { c.pump(b, shape.streams, &left) })
				}
				wg.Wait()
			})
		})
	}
}

func BenchmarkServerStream(b *testing.B) {
	const messages = 1000
	engines(b, func(w http.ResponseWriter, r *http.Request) {
		msg := make([]byte, 64)
		for range messages {
			w.Write(msg)
			w.(http.Flusher).Flush()
		}
	}, func(b *testing.B, s *testServer) {
		hc := httpClient(b, s)
		b.ReportAllocs()
		b.SetBytes(messages * 64)
		for b.Loop() {
			fetch(b, hc, s.url("/"), nil, messages*64)
		}
	})
}

func BenchmarkDownload(b *testing.B) {
	const size = 16 << 20
	chunk := make([]byte, 64<<10)
	engines(b, func(w http.ResponseWriter, r *http.Request) {
		for range size / len(chunk) {
			w.Write(chunk)
		}
	}, func(b *testing.B, s *testServer) {
		hc := httpClient(b, s)
		b.ReportAllocs()
		b.SetBytes(size)
		for b.Loop() {
			fetch(b, hc, s.url("/"), nil, size)
		}
	})
}

func BenchmarkUpload(b *testing.B) {
	body := make([]byte, 16<<20)
	engines(b, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
	}, func(b *testing.B, s *testServer) {
		hc := httpClient(b, s)
		b.ReportAllocs()
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			fetch(b, hc, s.url("/"), body, 0)
		}
	})
}

func fetch(b *testing.B, hc *http.Client, url string, body []byte, want int64) {
	b.Helper()
	r, err := hc.Post(url, "application/octet-stream", bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Body.Close()
	if n, err := io.Copy(io.Discard, r.Body); n != want || err != nil {
		b.Fatalf("read %d bytes of %d: %v", n, want, err)
	}
}
