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
					wg.Go(func() {
						more := func() bool { return left.Add(-1) >= 0 }
						if err := c.Pump(shape.streams, "/MyService/User", []byte("\x00\x00\x00\x00\x04\x0a\x02\x01\x02"), more, func(bool) {}); err != nil {
							b.Error(err)
						}
					})
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
