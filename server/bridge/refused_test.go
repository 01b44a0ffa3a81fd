package bridge_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"example.com/roster/server/bridge"
)

// serveRefusals is a process that refuses every call with REFUSED_STREAM once it has read all of it, which
// says that it has not begun it (RFC 9113 §8.7). It is not ready before begin is closed.
func serveRefusals(t *testing.T, begin <-chan struct{}, refused *atomic.Int64) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	refuse := func(conn net.Conn) {
		defer conn.Close()
		if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		<-begin
		framer := http2.NewFramer(conn, conn)
		framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24})
		_ = framer.WriteWindowUpdate(0, 1<<30)
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *http2.SettingsFrame:
				if !frame.IsAck() {
					_ = framer.WriteSettingsAck()
				}
			case *http2.MetaHeadersFrame:
				if strings.HasPrefix(frame.PseudoValue("path"), "/grpc.health") {
					var block bytes.Buffer
					encoder := hpack.NewEncoder(&block)
					for _, field := range [][2]string{{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", "12"}} {
						_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
					}
					_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: frame.StreamID, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
				}
			case *http2.DataFrame:
				if frame.StreamEnded() {
					refused.Add(1)
					_ = framer.WriteRSTStream(frame.StreamID, http2.ErrCodeRefusedStream)
				}
			}
		}
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			go refuse(conn)
		}
	})
	t.Cleanup(func() { listener.Close(); running.Wait() })
	return listener.Addr().String()
}

// A call that a process refuses before it has begun is tried on another one, however long its request is.
func TestARefusedCallIsTriedElsewhere(t *testing.T) {
	var refused atomic.Int64
	begin := make(chan struct{})
	bad, good := serveRefusals(t, begin, &refused), startServer(t, "")
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+bad+",http://"+good.address), Schema: testSchema()})
	await(t, "the services to be mounted", func() bool { return len(b.Mounts()) > 0 && !b.Mounts()[0].Down })
	client := unary(url, connect.WithGRPC())
	call := func(size int) error {
		_, err := client.CallUnary(t.Context(), connect.NewRequest(&testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: make([]byte, size)}}))
		return err
	}
	if err := call(10); err != nil {
		t.Fatal(err)
	}
	close(begin)
	for _, size := range []int{10, 1 << 20} {
		before := refused.Load()
		await(t, "a call to be refused", func() bool {
			if err := call(size); err != nil {
				t.Fatalf("a call of %d bytes failed: %v", size, err)
			}
			return refused.Load() > before
		})
	}
}
