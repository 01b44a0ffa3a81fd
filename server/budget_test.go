package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sync/semaphore"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
)

func TestLongRequestsOfAConnectionWaitForEachOther(t *testing.T) {
	ctx, cancel := context.WithCancel(withBudget(t.Context(), semaphore.NewWeighted(portBudget)))
	var first, second, third, short, other share
	for _, s := range []*share{&first, &second} {
		if err := s.take(ctx, longRequest/2); err != nil {
			t.Fatal(err)
		}
	}
	if err := short.take(ctx, shortRequest); err != nil {
		t.Errorf("a short request waits: %v", err)
	}
	if err := other.take(withBudget(t.Context(), semaphore.NewWeighted(portBudget)), 1<<30); err != nil {
		t.Errorf("another connection waits: %v", err)
	}
	taken := make(chan error, 1)
	go func() { taken <- third.take(ctx, longRequest/2) }()
	select {
	case <-taken:
		t.Error("the budget is no bound")
	case <-time.After(50 * time.Millisecond):
	}
	first.giveBack()
	if err := <-taken; err != nil {
		t.Error(err)
	}
	cancel()
	var late share
	if err := late.take(ctx, longRequest); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who has gone: %v", err)
	}
}

// Peers that ask for all they may and take nothing do not fill the memory, and
// those beside them are answered.
func TestMuchAskedForAndNothingTaken(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		t.Run(fmt.Sprintf("compressed=%v", compressed), func(t *testing.T) { askMuchAndTakeNothing(t, compressed) })
	}
}

func askMuchAndTakeNothing(t *testing.T, compressed bool) {
	p := start(t, Config{}, nil)
	ids := make([]int32, 7000)
	for i := range ids {
		ids[i] = 3 // replies of 3.9 MB each
	}
	body, encoding := envelope(0, marshal(t, ids...)), "identity"
	if compressed { // to some 50 bytes
		body, encoding = envelope(1, zipped(marshal(t, ids...))), "gzip"
	}
	memory := func() uint64 {
		runtime.GC() // what is held counts, not what waits to be collected
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := memory()
	for range 2 {
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
			for _, field := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/MyService/User"},
				{":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"}, {"grpc-encoding", encoding}} {
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

// A request is counted by what it may be once it is unpacked.
func TestUnpackedSize(t *testing.T) {
	for _, test := range []struct {
		method, target, name, encoding string
		size, want                     int64
	}{
		{"POST", "/", "Grpc-Encoding", "", 60, 60},
		{"POST", "/", "Grpc-Encoding", "identity", 60, 60},
		{"POST", "/", "Grpc-Encoding", "gzip", 60, 42 * 1032},
		{"POST", "/", "Content-Encoding", "gzip", 19, 1032},
		{"POST", "/", "Connect-Content-Encoding", "gzip", 5, 5},
		{"GET", "/?compression=gzip", "X", "", 118, 100 * 1032},
	} {
		r := httptest.NewRequest(test.method, test.target, nil)
		r.Header.Set(test.name, test.encoding)
		if got := unpackedSize(r, test.size); got != test.want {
			t.Errorf("%+v: %d", test, got)
		}
	}
}

// Who watches the port's health for ever, under however long a name, holds no memory and no budget.
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

// A reader that is slow and goes on reading is not cut, however long one piece takes it.
func TestASlowReaderIsNotCut(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	go func(far io.Reader) {
		for piece := make([]byte, 1024); ; time.Sleep(2 * time.Millisecond) {
			if _, err := far.Read(piece); err != nil {
				return
			}
		}
	}(far)
	c := &stallConn{Conn: near, timeout: 50 * time.Millisecond, stats: new(Stats), parting: new(parting)}
	if n, err := c.Write(make([]byte, stallPiece)); n != stallPiece || err != nil {
		t.Errorf("%d of %d bytes written: %v", n, stallPiece, err)
	}
	far.Close()
	near, far = net.Pipe()
	defer far.Close()
	c.Conn = near
	if n, err := c.Write(make([]byte, stallPiece)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("to one who does not read: %d bytes, %v", n, err)
	}
}
