package server

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"example.com/roster/server/rpc"
)

// The tests of this file are callers who try to make the port hold more than it should.

// manyIDs is a User request of 4 MB, in which each id is one byte: packed, so a few KB in gzip.
func manyIDs() []byte {
	const ids = rpc.MaxMessageBytes - 16
	return append(binary.AppendUvarint([]byte{0x0a}, ids), bytes.Repeat([]byte{1}, ids)...)
}

// allocated runs do and returns how many MB were allocated meanwhile, collected since or not.
func allocated(do func()) int {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return int((after.TotalAlloc - before.TotalAlloc) >> 20)
}

// A request that is small because it is compressed is unpacked only as far as its method can use it.
func TestASmallCompressedRequestIsUnpackedNoFurtherThanItsLimit(t *testing.T) {
	p := start(t, Config{}, nil)
	small := zipped(manyIDs())
	var deflated bytes.Buffer
	w := zlib.NewWriter(&deflated)
	w.Write(manyIDs())
	w.Close()
	query := url.Values{"encoding": {"proto"}, "compression": {"gzip"}, "connect": {"v1"}, "base64": {"1"}}
	requests := map[string]func() (*http.Response, string){
		"gRPC": func() (*http.Response, string) {
			return p.post(true, "/MyService/User", "application/grpc", bytes.NewReader(envelope(1, small)), "Te", "trailers", "Grpc-Encoding", "gzip")
		},
		"gRPC-Web over HTTP/1.1": func() (*http.Response, string) {
			return p.post(false, "/MyService/User", "application/grpc-web", bytes.NewReader(envelope(1, small)), "Grpc-Encoding", "gzip")
		},
		"gRPC-Web in text": func() (*http.Response, string) {
			text := base64.StdEncoding.EncodeToString(envelope(1, small))
			return p.post(true, "/MyService/User", "application/grpc-web-text", strings.NewReader(text), "Grpc-Encoding", "gzip")
		},
		"gRPC, deflate": func() (*http.Response, string) {
			return p.post(true, "/MyService/User", "application/grpc", bytes.NewReader(envelope(1, deflated.Bytes())), "Te", "trailers", "Grpc-Encoding", "deflate")
		},
		"Connect, deflate": func() (*http.Response, string) {
			return p.post(true, "/MyService/User", "application/proto", bytes.NewReader(deflated.Bytes()), "Content-Encoding", "deflate")
		},
		"a stream, deflate": func() (*http.Response, string) {
			return p.post(true, "/grpc.health.v1.Health/Watch", "application/grpc", bytes.NewReader(envelope(1, deflated.Bytes())), "Te", "trailers", "Grpc-Encoding", "deflate")
		},
		"Connect": func() (*http.Response, string) {
			return p.post(true, "/MyService/User", "application/proto", bytes.NewReader(small), "Content-Encoding", "gzip")
		},
		"Connect over HTTP/1.1": func() (*http.Response, string) {
			return p.post(false, "/roster.v1.DirectoryService/BatchGetUsers", "application/proto", bytes.NewReader(small), "Content-Encoding", "gzip")
		},
		"a stream": func() (*http.Response, string) {
			return p.post(true, "/grpc.health.v1.Health/Watch", "application/grpc", bytes.NewReader(envelope(1, small)), "Te", "trailers", "Grpc-Encoding", "gzip")
		},
		"a GET": func() (*http.Response, string) {
			query.Set("message", base64URL(small))
			response, err := http.Get("http://" + p.address + "/roster.v1.DirectoryService/BatchGetUsers?" + query.Encode())
			if err != nil {
				t.Fatal(err)
			}
			var body bytes.Buffer
			body.ReadFrom(response.Body)
			response.Body.Close()
			return response, body.String()
		},
	}
	for name, send := range requests {
		t.Run(name, func(t *testing.T) {
			var said string
			const times = 20
			grown := allocated(func() {
				for range times {
					response, body := send()
					said = body + response.Header.Get("Grpc-Message") + response.Trailer.Get("Grpc-Message")
				}
			})
			if !strings.Contains(said, "before or after compression") {
				t.Errorf("answered %q", said)
			}
			// 4 MB of message and 16 MB of ids each without the limit.
			if grown > times*2 {
				t.Errorf("%d requests allocated %d MB", times, grown)
			}
		})
	}
}

// The largest request that --max-batch permits is answered in every form that clients send.
func TestARequestOfAllIDs(t *testing.T) {
	const ids = 10_000
	p := start(t, Config{}, nil)
	negative := make([]int32, ids)
	for i := range negative {
		negative[i] = -2147483648
	}
	unpacked := bytes.Repeat(append([]byte{0x08}, binary.AppendUvarint(nil, uint64(0xffffffff80000000))...), ids)
	indented := "{\n        \"userIDs\": [\n" + strings.Repeat("                \"-2147483648\",\n", ids-1) + "                -2147483648\n        ]\n}\n"
	for name, test := range map[string]struct {
		contentType string
		body        []byte
	}{
		"packed protobuf":   {"application/proto", marshal(t, negative...)},
		"unpacked protobuf": {"application/proto", unpacked},
		"indented JSON":     {"application/json", []byte(indented)},
	} {
		for _, http2 := range []bool{false, true} {
			for _, compressed := range []bool{false, true} {
				body, encoding := test.body, "identity"
				if compressed {
					body, encoding = zipped(body), "gzip"
				}
				response, said := p.post(http2, "/MyService/User", test.contentType, bytes.NewReader(body), "Content-Encoding", encoding)
				if response.StatusCode != 200 {
					t.Errorf("%s, HTTP/2 %v, %s: %d %s", name, http2, encoding, response.StatusCode, said)
				}
			}
		}
	}
}

// The requests of watches are unpacked no further than to what Watch can use.
func TestWatchesUnpackLittle(t *testing.T) {
	p := start(t, Config{}, nil)
	padded := zipped(append(binary.AppendUvarint([]byte{0x7a}, 4_000_000), make([]byte, 4_000_000)...)) // a field that Watch does not know
	conn := p.raw(t)
	framer := http2.NewFramer(conn, conn)
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer.WriteSettings()
	go func() {
		for {
			if _, err := framer.ReadFrame(); err != nil {
				return
			}
		}
	}()
	grown := allocated(func() {
		var block bytes.Buffer
		encoder := hpack.NewEncoder(&block)
		for id := uint32(1); id < 2*200; id += 2 {
			block.Reset()
			for _, field := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/grpc.health.v1.Health/Watch"},
				{":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"}, {"grpc-encoding", "gzip"}} {
				encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
			}
			framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
			if err := framer.WriteData(id, true, envelope(1, padded)); err != nil {
				t.Fatal(err)
			}
		}
		// Another caller is answered after them, on a connection of its own.
		if response, _ := p.post(true, "/MyService/User", "application/json", strings.NewReader(`{"userIDs":[1]}`)); response.StatusCode != 200 {
			t.Errorf("one beside them: %d", response.StatusCode)
		}
	})
	if grown > 40 {
		t.Errorf("200 watches allocated %d MB", grown)
	}
}

// Requests that never arrive do not keep other callers from being answered.
func TestRequestsThatNeverArriveTakeNoSlots(t *testing.T) {
	p := start(t, Config{MaxConcurrentCalls: 8}, nil)
	var held sync.WaitGroup
	for i := range 16 {
		conn := p.raw(t)
		held.Go(func() {
			fmt.Fprintf(conn, "POST /MyService/User HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{", 20+i)
		})
	}
	held.Wait()
	for range 10 {
		if response, body := p.post(true, "/MyService/User", "application/json", strings.NewReader(`{"userIDs":[1]}`)); response.StatusCode != 200 {
			t.Fatalf("%d %s", response.StatusCode, body)
		}
	}
}

// A peer that reads its reply slowly holds the call no longer than the deadline.
func TestADeadlineEndsTheWritingOfAReply(t *testing.T) {
	running := make(chan time.Duration, 2)
	p := start(t, Config{MaxDeadline: 500 * time.Millisecond, MaxBatch: 10_000}, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			began := time.Now()
			defer func() { running <- time.Since(began) }()
			next.ServeHTTP(w, r)
		})
	})
	ids := strings.Repeat("3,", 6999) + "3" // a reply of 4 MB
	body := `{"userIDs":[` + ids + `]}`
	conn := p.raw(t)
	conn.(*net.TCPConn).SetReadBuffer(4096)
	fmt.Fprintf(conn, "POST /MyService/User HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	go func() {
		for piece := make([]byte, 1024); ; time.Sleep(10 * time.Millisecond) {
			if _, err := conn.Read(piece); err != nil {
				return
			}
		}
	}()
	select {
	case took := <-running:
		if took > 5*time.Second {
			t.Errorf("over HTTP/1.1 the call ran for %v", took)
		}
	case <-time.After(10 * time.Second):
		t.Error("over HTTP/1.1 the call still runs after 10 s")
	}
}

// Over HTTP/2 a peer that opens its window by one byte at a time is no stalled one, and the deadline ends
// its call, too.
func TestADeadlineEndsTheWritingOfAReplyOverHTTP2(t *testing.T) {
	p := start(t, Config{MaxDeadline: 500 * time.Millisecond}, nil)
	conn := p.raw(t)
	framer := http2.NewFramer(conn, conn)
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	body := envelope(0, marshal(t, threes(7000)...))
	for _, field := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/MyService/User"},
		{":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	began := time.Now()
	framer.WriteData(1, true, body)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				framer.WriteWindowUpdate(1, 1)
			}
		}
	}()
	conn.SetReadDeadline(began.Add(10 * time.Second))
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("after %v: %v, want a reset of the stream", time.Since(began), err)
		}
		if frame.Header().Type == http2.FrameSettings && !frame.Header().Flags.Has(http2.FlagSettingsAck) {
			continue
		}
		if reset, ok := frame.(*http2.RSTStreamFrame); ok {
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the stream was reset (%v) after %v", reset.ErrCode, took)
			}
			return
		}
	}
}

// threes is n times the id 3, whose user is long.
func threes(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = 3
	}
	return ids
}

func base64URL(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

func (p *port) raw(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// What a request says will come takes nothing from other callers: only what has arrived counts.
func TestDeclaredLengthsTakeNothing(t *testing.T) {
	p := start(t, Config{}, nil)
	body := `{"userIDs":[` + strings.Repeat("1,", 200) + `1]}`
	for range 150 {
		c, err := net.Dial("tcp", p.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST /MyService/User HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 330000\r\n\r\n%s",
			strings.Repeat(" ", 200))
	}
	time.Sleep(300 * time.Millisecond) // for the bodies to arrive
	if response, text := p.post(false, "/MyService/User", "application/json", strings.NewReader(body)); response.StatusCode != 200 {
		t.Errorf("while others have sent 30 KB in all: %d %.200s", response.StatusCode, text)
	}
}
