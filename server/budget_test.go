package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sync/semaphore"
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
	p := start(t, Config{}, nil)
	ids := make([]int32, 7000)
	for i := range ids {
		ids[i] = 3 // replies of 3.9 MB each
	}
	body := envelope(0, marshal(t, ids...))
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
				{":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
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
