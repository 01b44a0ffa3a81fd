package server

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/internal/inflate"
)

// Peers that send as many requests as they may and read no reply do not fill the memory, and other
// clients are answered.
func TestMuchAskedForAndNothingTaken(t *testing.T) {
	for _, compression := range []string{"identity", "gzip", "deflate"} {
		t.Run(compression, func(t *testing.T) { askMuchAndTakeNothing(t, compression, "application/grpc") })
	}
	t.Run("gRPC-Web in text", func(t *testing.T) { askMuchAndTakeNothing(t, "gzip", "application/grpc-web-text") })
}

func askMuchAndTakeNothing(t *testing.T, compression, contentType string) {
	ids := make([]int32, 7000)
	for i := range ids {
		ids[i] = 3 // replies of 3.9 MB each
	}
	body := envelope(0, marshal(t, ids...))
	if format, ok := inflate.ParseFormat(compression); ok { // to some 50 bytes
		var packed bytes.Buffer
		w := format.NewCompressor()
		w.Reset(&packed)
		w.Write(marshal(t, ids...))
		w.Close()
		body = envelope(1, packed.Bytes())
	}
	if contentType == "application/grpc-web-text" {
		body = base64.StdEncoding.AppendEncode(nil, body)
	}
	takeNothing(t, start(t, Config{}, nil), 2, "/MyService/User", contentType, compression, body)
}

// The pages of a list are as long as the callers like, and their requests are a few bytes.
func TestManyPagesAskedForAndNoneTaken(t *testing.T) {
	c, p := users(t, Config{})
	request := &rosterv1.BatchUpdateUsersRequest{}
	for id := range int32(1000) {
		request.Creates = append(request.Creates, create(id+1, strings.Repeat(`"`, 256), fmt.Sprintf("%s%d@example.com", strings.Repeat("m", 290), id)))
	}
	must[*rosterv1.BatchUpdateUsersResponse](t)(c.BatchUpdateUsers(t.Context(), request))
	// Pages of 1 MB each.
	takeNothing(t, p, 6, "/roster.v1.DirectoryService/ListUsers", "application/grpc+json", "identity", envelope(0, []byte(`{"pageSize":1000}`)))
}

// takeNothing calls a method a hundred times on each of some connections, and reads no reply.
func takeNothing(t *testing.T, p *port, connections int, path, contentType, compression string, body []byte) {
	t.Helper()
	memory := func() uint64 {
		runtime.GC() // what is held counts, not what waits to be collected
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := memory()
	for range connections {
		conn, err := net.Dial("tcp", p.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go io.Copy(io.Discard, conn)
		io.WriteString(conn, http2.ClientPreface)
		framer := http2.NewFramer(conn, nil)
		framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		var block bytes.Buffer
		encoder := hpack.NewEncoder(&block)
		for id := uint32(1); id < 200; id += 2 { // all within the window of the connection
			block.Reset()
			for _, field := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", path},
				{":authority", "x"}, {"content-type", contentType}, {"te", "trailers"}, {"grpc-encoding", compression}} {
				encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
			}
			framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
			if err := framer.WriteData(id, true, body); err != nil {
				t.Fatal(err)
			}
		}
	}
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if grown := int64(memory()) - int64(before); grown > 150<<20 {
			t.Fatalf("memory grew by %d MB, all replies would take 800", grown>>20)
		}
		if response, _ := p.post(true, "/MyService/User", "application/grpc", bytes.NewReader(envelope(0, marshal(t, 1))), "Te", "trailers"); response.StatusCode != http.StatusOK ||
			response.Header.Get("Grpc-Status") != "0" {
			t.Fatalf("one beside them: %d, status %q", response.StatusCode, response.Header.Get("Grpc-Status"))
		}
	}
}

// An open Watch of health, of a name however long, holds neither memory nor budget.
func TestAWatchKeepsNothing(t *testing.T) {
	p := start(t, Config{}, nil)
	message, err := proto.Marshal(&healthv1.HealthCheckRequest{Service: strings.Repeat("x", 60_000)})
	if err != nil {
		t.Fatal(err)
	}
	for _, compressed := range []bool{false, true} {
		body, encoding := envelope(0, message), "identity"
		if compressed {
			body, encoding = envelope(1, zipped(message)), "gzip"
		}
		response, _ := p.post(true, "/grpc.health.v1.Health/Watch", "application/grpc", bytes.NewReader(body), "Grpc-Encoding", encoding)
		if status := response.Header.Get("Grpc-Status"); status != "8" {
			t.Errorf("compressed %v: status %q %q, want RESOURCE_EXHAUSTED", compressed, status, response.Header.Get("Grpc-Message"))
		}
	}
}
