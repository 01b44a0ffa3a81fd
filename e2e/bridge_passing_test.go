package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/durationpb"
)

// everyPython runs a test on the newest and the oldest grpcio, on threads and on asyncio.
func everyPython(t *testing.T, test func(t *testing.T, server *faultServer, address string)) {
	code := faultsCode(t)
	for _, venv := range []string{"ROSTER_E2E_NEWEST", "ROSTER_E2E_OLDEST"} {
		python := need(t, venv)
		for _, flags := range [][]string{nil, {"--aio"}} {
			t.Run(strings.TrimPrefix(venv, "ROSTER_E2E_")+strings.Join(flags, ""), func(t *testing.T) {
				t.Parallel()
				server := startFaultsOn(t, python, code, "127.0.0.1:0", flags...)
				_, address := bridgeTo(t, []*faultServer{server})
				newLoad(dial(t, address)).warm(t, server)
				test(t, server, address)
			})
		}
	}
}

// A callReply is a CallReply in JSON.
type callReply struct {
	Process     int
	RemainingMs string
	Metadata    []struct {
		Key   string
		Value []byte
	}
}

func (r callReply) values(key string) (values []string) {
	for _, pair := range r.Metadata {
		if pair.Key == key {
			values = append(values, string(pair.Value))
		}
	}
	return values
}

// postCall makes a call in Connect's JSON over HTTP/1.1.
func postCall(ctx context.Context, address, body string, header map[string]string) (reply callReply, got *http.Response, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+faultService+"Call", strings.NewReader(body))
	if err != nil {
		return reply, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		request.Header.Set(name, value)
	}
	got, err = http.DefaultClient.Do(request)
	if err != nil {
		return reply, nil, err
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err == nil && got.StatusCode != http.StatusOK {
		err = errors.New(string(text))
	}
	if err == nil {
		err = json.Unmarshal(text, &reply)
	}
	return reply, got, err
}

// remaining is field 2 of a CallReply: what the server took for the time until the deadline.
func remaining(t *testing.T, reply []byte) time.Duration {
	t.Helper()
	for len(reply) > 0 {
		number, kind, n := protowire.ConsumeTag(reply)
		if n < 0 {
			break
		}
		reply = reply[n:]
		if number == 2 {
			value, _ := protowire.ConsumeVarint(reply)
			return time.Duration(value) * time.Millisecond
		}
		if n = protowire.ConsumeFieldValue(number, kind, reply); n < 0 {
			break
		}
		reply = reply[n:]
	}
	t.Fatal("no remaining time in the reply")
	return 0
}

// A Python server is told the deadline of the caller, or that of the port, and when the caller leaves.
func TestBridgePassesDeadlinesAndCancellation(t *testing.T) {
	everyPython(t, func(t *testing.T, server *faultServer, address string) {
		conn := dial(t, address)
		request := callRequest(0, nil)
		for _, timeout := range []time.Duration{0, 20 * time.Second} {
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			most := time.Minute // --max-deadline
			if timeout > 0 {
				ctx, cancel = context.WithTimeout(ctx, timeout)
				most = timeout
			}
			var reply []byte
			err := conn.Invoke(ctx, faultService+"Call", &request, &reply)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			if left := remaining(t, reply); left > most || left < most-10*time.Second {
				t.Errorf("with a timeout of %v the server had %v left", timeout, left)
			}
		}
		if reply, _, err := postCall(t.Context(), address, "{}", map[string]string{"Connect-Timeout-Ms": "20000"}); err != nil || len(reply.RemainingMs) != 5 {
			t.Errorf("in Connect with a timeout of 20 s the server had %s ms left; %v", reply.RemainingMs, err)
		}
		// A call, and a stream, that the caller leaves, and that its deadline ends.
		said := func(what string) {
			t.Helper()
			eventually(t, "the server to log "+what, func() bool { return strings.Contains(server.log(), what+"\n") })
		}
		noted := func(note string) []byte {
			wire := callRequest(time.Minute, nil)
			return protowire.AppendString(protowire.AppendTag(wire, 2, protowire.BytesType), note)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			request := noted("cancelled")
			ended <- conn.Invoke(ctx, faultService+"Call", &request, new([]byte))
		}()
		said("began cancelled")
		cancel()
		if err := <-ended; status.Code(err) != codes.Canceled {
			t.Error("cancelled:", err)
		}
		said("left cancelled")
		ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		request = noted("overdue")
		if err := conn.Invoke(ctx, faultService+"Call", &request, new([]byte)); status.Code(err) != codes.DeadlineExceeded {
			t.Error("overdue:", err)
		}
		said("left overdue")
		ctx, cancel = context.WithCancel(t.Context())
		go func() {
			_, _, err := postCall(ctx, address, `{"sleepMs":60000,"note":"hung up"}`, nil)
			ended <- err
		}()
		said("began hung up")
		cancel()
		<-ended
		said("left hung up")
		ctx, cancel = context.WithCancel(t.Context())
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, faultService+"Down")
		if err != nil {
			t.Fatal(err)
		}
		down := []byte{0x18, 20} // DownRequest{pause_ms: 20}
		down = protowire.AppendString(protowire.AppendTag(down, 4, protowire.BytesType), "a stream")
		if err := errors.Join(stream.SendMsg(&down), stream.CloseSend(), stream.RecvMsg(new([]byte))); err != nil {
			t.Fatal(err)
		}
		cancel()
		said("left a stream")
	})
}

// Metadata arrives whole at a Python server, and its own at the caller, with the details of an error.
func TestBridgePassesMetadataAndDetails(t *testing.T) {
	everyPython(t, func(t *testing.T, server *faultServer, address string) {
		binary := "\x00\x01\xff,\n" + strings.Repeat("\xfe", 200)
		// In JSON, so that the reply can be read; the metadata is base64 in a request of HTTP.
		reply, _, err := postCall(t.Context(), address, "{}", map[string]string{
			"X-Text": "one, two", "X-Bytes-Bin": base64.StdEncoding.EncodeToString([]byte(binary)), "Cookie": "a=b"})
		if err != nil {
			t.Fatal(err)
		}
		if got := reply.values("x-text"); !slices.Equal(got, []string{"one, two"}) {
			t.Errorf("x-text is %q", got)
		}
		if got := reply.values("x-bytes-bin"); !slices.Equal(got, []string{binary}) {
			t.Errorf("x-bytes-bin is %q", got)
		}
		if got := reply.values("cookie"); got != nil {
			t.Errorf("cookie is %q", got)
		}
		conn := dial(t, address)
		var header, trailer metadata.MD
		check := func(what string, headers bool) {
			t.Helper()
			if got := header["leading-bin"]; headers && (!slices.Equal(got, []string{"\x00\x01\xff,"}) || header["leading"][0] != "yes") {
				t.Errorf("%s: the header is %q", what, header)
			}
			if got := trailer["trailing-bin"]; !slices.Equal(got, []string{"\xff\x00,"}) || trailer["trailing"][0] != "yes" {
				t.Errorf("%s: the trailer is %q", what, trailer)
			}
		}
		ctx := metadata.AppendToOutgoingContext(t.Context(), "twice-bin", "\x00", "twice-bin", "\x01,", "twice", "a", "twice", "b")
		request := protowire.AppendString(protowire.AppendTag(nil, 2, protowire.BytesType), "with metadata")
		var wire []byte
		if err := conn.Invoke(ctx, faultService+"Call", &request, &wire, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
			t.Fatal(err)
		}
		check("a reply", true)
		for _, value := range []string{"\x00", "\x01,", "a", "b"} {
			pair := protowire.AppendString(protowire.AppendTag(nil, 2, protowire.BytesType), value)
			if !bytes.Contains(wire, pair) {
				t.Errorf("the server was not told the value %q", value)
			}
		}
		header, trailer = nil, nil
		request = protowire.AppendVarint(protowire.AppendTag(nil, 4, protowire.VarintType), uint64(codes.FailedPrecondition))
		err = conn.Invoke(ctx, faultService+"Call", &request, &wire, grpc.Header(&header), grpc.Trailer(&trailer))
		st := status.Convert(err)
		if st.Code() != codes.FailedPrecondition || st.Message() != "wanted: ünïcode\n" || len(st.Details()) != 1 {
			t.Fatal("the error is", st.Code(), st.Message(), st.Details())
		}
		if detail, ok := st.Details()[0].(*durationpb.Duration); !ok || detail.GetSeconds() != 7 {
			t.Error("the detail is", st.Details()[0])
		}
		check("an error", false)
		_, got, err := postCall(t.Context(), address, `{"fail":9}`, nil)
		if err == nil || !strings.Contains(err.Error(), `"failed_precondition"`) || !strings.Contains(err.Error(), `google.protobuf.Duration`) {
			t.Error("in Connect:", err)
		}
		if got.Header.Get("Trailer-Trailing") != "yes" && got.Header.Get("Trailing") != "yes" {
			t.Error("in Connect the header is", got.Header)
		}
	})
}

// chunk is a Chunk with a body and a note.
func chunk(body []byte, note string) []byte {
	wire := protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), body)
	return protowire.AppendString(protowire.AppendTag(wire, 4, protowire.BytesType), note)
}

// A server that ends a stream while the caller still sends costs nothing but that stream: nobody reads a
// request after its handler has returned.
func TestBridgeStreamsThatTheServerEndsEarly(t *testing.T) {
	server := startFaults(t, faultsCode(t), "127.0.0.1:0", "--aio")
	p, address := bridgeTo(t, []*faultServer{server})
	l := newLoad(dial(t, address))
	l.warm(t, server)
	var streams sync.WaitGroup
	for i := range inFull(100, 2_000) {
		if i%100 == 0 {
			streams.Wait()
		}
		streams.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			stream, err := l.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, faultService+"Both")
			if err != nil {
				t.Error(err)
				return
			}
			go func() {
				message, last := chunk(make([]byte, 50_000), ""), chunk(nil, "enough")
				_ = stream.SendMsg(&message)
				_ = stream.SendMsg(&last)
				for stream.SendMsg(&message) == nil {
				}
			}()
			for {
				if err := stream.RecvMsg(new([]byte)); err != nil {
					if status.Code(err) != codes.DataLoss {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	streams.Wait()
	if l.call(faultService+"Call", callRequest(0, nil)); l.lost() > 0 {
		t.Error(l)
	}
	for _, bad := range []string{"panic", "ReadAfterClose", "DATA RACE", `"level":"ERROR"`} {
		if strings.Contains(p.log(), bad) {
			t.Error("the log has", bad)
		}
	}
}

// 1,000 streams are open at a time, and each of them answers.
func TestBridgeHasAThousandStreams(t *testing.T) {
	const count, connections = 1_000, 5
	server := startFaults(t, faultsCode(t), "127.0.0.1:0", "--aio")
	p, address := bridgeTo(t, []*faultServer{server})
	newLoad(dial(t, address)).warm(t, server)
	before := peakOf(t, p, func() {})
	var open, echoed atomic.Int64
	var streams sync.WaitGroup
	all := make(chan struct{})
	peak := peakOf(t, p, func() {
		for range connections {
			conn := dial(t, address)
			for range count / connections {
				streams.Go(func() {
					opened := false
					defer func() {
						if !opened {
							open.Add(1)
						}
					}()
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
					defer cancel()
					stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, faultService+"Both")
					message := chunk(make([]byte, 100), "")
					for range 3 {
						if err == nil {
							err = errors.Join(stream.SendMsg(&message), stream.RecvMsg(new([]byte)))
						}
						if err != nil {
							t.Error(err)
							return
						}
						echoed.Add(1)
						if !opened {
							opened = true
							open.Add(1)
						}
						select {
						case <-all:
						case <-ctx.Done():
						}
					}
					_ = stream.CloseSend()
					if err := stream.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
						t.Error("at the end:", err)
					}
				})
			}
		}
		eventuallyWithin(t, 2*time.Minute, "all streams to be open", func() bool { return open.Load() == count })
		close(all)
		streams.Wait()
	})
	t.Logf("%d messages on %d streams; the port grew from %d to %d MiB", echoed.Load(), count, before, peak)
	if echoed.Load() != 3*count {
		t.Error("not every stream answered three times")
	}
}

// A stream takes the same memory however long it is, in both directions.
func TestBridgeLongStreamsTakeConstantMemory(t *testing.T) {
	size := inFull(64, 1024) // MiB
	server := startFaults(t, faultsCode(t), "127.0.0.1:0", "--aio")
	p, address := bridgeTo(t, []*faultServer{server})
	conn := dial(t, address)
	newLoad(conn).warm(t, server)
	before := peakOf(t, p, func() {})
	began := time.Now()
	down := peakOf(t, p, func() {
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, faultService+"Down")
		if err != nil {
			t.Fatal(err)
		}
		request := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(size))
		request = protowire.AppendVarint(protowire.AppendTag(request, 2, protowire.VarintType), 1<<20)
		if err := errors.Join(stream.SendMsg(&request), stream.CloseSend()); err != nil {
			t.Fatal(err)
		}
		var received, count int
		for {
			var message []byte
			err := stream.RecvMsg(&message)
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			received += len(message)
			count++
		}
		if count != size || received < size<<20 {
			t.Errorf("%d messages of %d bytes", count, received)
		}
	})
	tookDown := time.Since(began)
	began = time.Now()
	up := peakOf(t, p, func() {
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, faultService+"Up")
		if err != nil {
			t.Fatal(err)
		}
		message := chunk(make([]byte, 1<<20), "")
		for range size {
			if err := stream.SendMsg(&message); err != nil {
				t.Fatal(err)
			}
		}
		var reply []byte
		if err := errors.Join(stream.CloseSend(), stream.RecvMsg(&reply)); err != nil {
			t.Fatal(err)
		}
		want := protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), uint64(size)<<20)
		if !bytes.Contains(reply, want) {
			t.Errorf("the server has not received %d MiB: %x", size, reply)
		}
	})
	rate := func(took time.Duration) string { return fmt.Sprintf("%.0f MiB/s", float64(size)/took.Seconds()) }
	t.Logf("%d MiB in each direction: %s down, %s up; resident %d MiB before, at most %d and %d", size, rate(tookDown), rate(time.Since(began)), before, down, up)
	if max(down, up)-before > 64 {
		t.Error("the port grew by more than 64 MiB")
	}
}
