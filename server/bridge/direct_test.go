package bridge_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"

	"example.com/roster/server/bridge"
)

// A call of gRPC that does not pass Connect's handler is answered as Connect does, to which every call over
// HTTP/1.1 is left.
func TestDirectCallsAreAnsweredAsByConnect(t *testing.T) {
	server := startServer(t, "")
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+server.address), MaxMessage: 100_000})
	mounted(t, b)
	envelope := func(flags byte, size int, message []byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{flags}, uint32(size)), message...)
	}
	request := func(request *testgrpc.SimpleRequest) []byte {
		message, err := proto.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		return envelope(0, len(message), message)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(request(&testgrpc.SimpleRequest{ResponseSize: 10})[5:])
	_ = w.Close()
	short := request(&testgrpc.SimpleRequest{ResponseSize: 10})
	long := request(&testgrpc.SimpleRequest{ResponseSize: 10_000})
	tests := []struct {
		name   string
		body   []byte
		header string // name: value
		direct bool   // if not, Connect answers
		calls  int    // that the upstream gets
	}{
		{"a short reply", short, "", true, 1},
		{"an empty message", request(&testgrpc.SimpleRequest{}), "", true, 1},
		{"the content type with its codec", short, "Content-Type: application/grpc+proto", true, 1},
		{"a content type with a parameter", short, "Content-Type: application/grpc; x=y", true, 1},
		{"a message that is not compressed where it might be", short, "Grpc-Encoding: gzip", true, 1},
		{"metadata", short, "X-Some: value", true, 1},
		{"a deadline", short, "Grpc-Timeout: 20S", true, 1},
		{"a deadline that has passed", short, "Grpc-Timeout: 0S", false, 0},
		{"a long reply", long, "", false, 1},
		{"a reply that is too long", request(&testgrpc.SimpleRequest{ResponseSize: 100_001}), "", false, 1},
		{"an error", request(&testgrpc.SimpleRequest{ResponseStatus: &testgrpc.EchoStatus{Code: int32(codes.Aborted), Message: "ü"}}), "", false, 1},
		{"a compressed request", envelope(1, packed.Len(), packed.Bytes()), "Grpc-Encoding: gzip", false, 1},
		{"a compressed request that does not say by what", envelope(1, packed.Len(), packed.Bytes()), "", false, 0},
		{"unknown flags", append([]byte{8}, short[1:]...), "", false, 0},
		{"a message that is too long", envelope(0, 100_001, make([]byte, 100_001)), "", false, 0},
		{"two messages", append(bytes.Clone(short), short...), "", false, 0},
		{"no message", nil, "", false, 0},
		{"a part of the prefix", short[:3], "", false, 0},
		{"a part of the message", short[:len(short)-1], "", false, 0},
		{"a byte too many", append(bytes.Clone(short), 0), "", false, 0},
		{"JSON", envelope(0, 19, []byte(`{"responseSize":10}`)), "Content-Type: application/grpc+json", false, 1},
	}
	count := func() int {
		server.service.mu.Lock()
		defer server.service.mu.Unlock()
		return server.service.calls
	}
	http1 := &http.Client{Transport: new(http.Transport)}
	call := func(client *http.Client, body []byte, header string) (data string, head, trailer http.Header, calls int) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+testPath+"UnaryCall", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Accept-Encoding": {"identity"}, "Grpc-Accept-Encoding": {"identity,gzip"}}
		if name, value, ok := strings.Cut(header, ": "); ok {
			r.Header.Set(name, value)
		}
		before := count()
		reply, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		all, err := io.ReadAll(reply.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Date", "Content-Length", "Connection"} {
			reply.Header.Del(name)
		}
		return string(all), reply.Header, reply.Trailer, count() - before
	}
	same := func(a, b http.Header) bool {
		return maps.EqualFunc(a, b, func(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") })
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			data, head, trailer, calls := call(h2c(), test.body, test.header)
			want, wantHead, wantTrailer, wantCalls := call(http1, test.body, test.header)
			if calls != test.calls || wantCalls != test.calls {
				t.Errorf("the upstream got %d calls, by Connect %d, want %d", calls, wantCalls, test.calls)
			}
			// Connect names a compression even if the reply is too short for it.
			if byConnect := head.Get("Grpc-Encoding") != ""; byConnect == test.direct {
				t.Errorf("answered by Connect: %v, want %v", byConnect, !test.direct)
			}
			if test.direct {
				wantHead.Del("Grpc-Encoding")
			}
			if data != want || !same(head, wantHead) || !same(trailer, wantTrailer) {
				t.Errorf("answered %.100q\n%v\n%v\nby Connect %.100q\n%v\n%v", data, head, trailer, want, wantHead, wantTrailer)
			}
		})
	}
}
