package gate

import (
	"bytes"
	"compress/gzip"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"example.com/roster/server/rpc"
)

// A request is charged by the size that it may have once it is unpacked.
func TestTheSizeOfARequestIsThatOfItsMessage(t *testing.T) {
	zipped := func(n int) []byte {
		var buffer bytes.Buffer
		w := gzip.NewWriter(&buffer)
		_, _ = w.Write(make([]byte, n))
		_ = w.Close()
		return buffer.Bytes()
	}
	envelope := func(flags byte, message []byte) []byte {
		return append([]byte{flags, 0, 0, byte(len(message) >> 8), byte(len(message))}, message...)
	}
	for name, test := range map[string]struct {
		contentType, header, encoding string
		body                          []byte
		want                          int64
	}{
		"not compressed":           {"application/json", "Content-Encoding", "", make([]byte, 60), 60},
		"identity":                 {"application/grpc", "Grpc-Encoding", "identity", envelope(0, make([]byte, 60)), 65},
		"gzip":                     {"application/json", "Content-Encoding", "gzip", zipped(5000), 5000},
		"gzip, gRPC":               {"application/grpc", "Grpc-Encoding", "gzip", envelope(1, zipped(5000)), 5000},
		"gzip that is longer":      {"application/json", "Content-Encoding", "gzip", zipped(1), int64(len(zipped(1)))},
		"a bomb":                   {"application/json", "Content-Encoding", "gzip", zipped(1 << 20), 10_000},
		"not compressed this time": {"application/grpc", "Grpc-Encoding", "gzip", envelope(0, make([]byte, 60)), 65},
		"not gzip":                 {"application/json", "Content-Encoding", "gzip", make([]byte, 60), 60},
		"cut":                      {"application/json", "Content-Encoding", "gzip", zipped(5000)[:20], 20},
		"no envelope":              {"application/grpc", "Grpc-Encoding", "gzip", []byte{1}, 1},
	} {
		r := httptest.NewRequest("POST", "/", bytes.NewReader(test.body))
		r.Header.Set("Content-Type", test.contentType)
		r.Header.Set(test.header, test.encoding)
		got := int64(-1)
		method := &rpc.Method{Policy: rpc.Policy{MaxMessage: 10_000, MessageFlag: "a test"}}
		c, r := rpc.Of(r)
		newBody(time.Second).wrap(method, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got = requestSize(r, 10_000)
		})).ServeHTTP(httptest.NewRecorder(), r)
		c.End()
		if got != test.want {
			t.Errorf("%s: %d bytes of a message, want %d", name, got, test.want)
		}
	}
	// Short compressed calls of a connection do not wait for each other.
	ctx := newBudget().connContext(t.Context())
	for range 10 {
		_, r := rpc.Of(httptest.NewRequestWithContext(ctx, "GET", "/?compression=identity&encoding=json&message="+strings.Repeat("x", 50), nil))
		var s share
		if err := s.take(r, requestSize(r, 10_000), false); err != nil || s.weight != 0 {
			t.Errorf("a short call is charged %d, %v", s.weight, err)
		}
	}
}

func TestLongRequestsOfAConnectionWaitForEachOther(t *testing.T) {
	request := func() (*http.Request, context.CancelFunc) {
		ctx, cancel := context.WithCancel(newBudget().connContext(t.Context()))
		c, r := rpc.Of(httptest.NewRequestWithContext(ctx, "POST", "/MyService/User", nil))
		t.Cleanup(c.End)
		return r, cancel
	}
	r, cancel := request()
	elsewhere, _ := request()
	var first, second, third, short, other share
	for _, s := range []*share{&first, &second} {
		if err := s.take(r, (replyBudget/replyRatio)/2, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := short.take(r, shortReply/replyRatio, false); err != nil {
		t.Errorf("a short request waits: %v", err)
	}
	if err := other.take(elsewhere, 1<<30, false); err != nil {
		t.Errorf("another connection waits: %v", err)
	}
	taken := make(chan *connect.Error, 1)
	go func() { taken <- third.take(r, (replyBudget/replyRatio)/2, false) }()
	select {
	case <-taken:
		t.Error("the budget is not enforced")
	case <-time.After(50 * time.Millisecond):
	}
	first.giveBack()
	if err := <-taken; err != nil {
		t.Error(err)
	}
	cancel()
	var late share
	if err := late.take(r, replyBudget/replyRatio, false); err.Code() != connect.CodeCanceled {
		t.Errorf("a cancelled call: %v", err)
	}
}

// A reply that is longer than its request made expect is charged what it takes, and so are the next ones.
func TestRepliesAreChargedTheirSize(t *testing.T) {
	b := newBudget()
	c, r := rpc.Of(httptest.NewRequestWithContext(b.connContext(t.Context()), "POST", "/MyService/User", nil))
	defer c.End()
	var first, second share
	for _, step := range []struct {
		size int
		want int64
	}{{shortReply, 0}, {70_000, 70_000}, {20_000, 20_000}} {
		if err := first.take(r, 100, false); err != nil {
			t.Fatal(err)
		}
		if err := first.Hold(step.size); err != nil || first.weight != step.want {
			t.Errorf("a reply of %d bytes is charged %d, %v", step.size, first.weight, err)
		}
		first.giveBack()
	}
	if err := second.take(r, 100, false); err != nil || second.weight != 70_000 {
		t.Errorf("the next request is charged %d, %v", second.weight, err)
	}
	second.giveBack()
	if !b.port.TryAcquire(portBudget) {
		t.Error("not everything was given back")
	}
}
