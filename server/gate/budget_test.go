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

// A page is much longer than the request for it, whatever that is. So nothing is charged before the handler says what the
// page takes, and the next request for a few users is not taken for one of a page.
func TestThePagesOfAMethodAreChargedWhatItsHandlerSays(t *testing.T) {
	b := newBudget()
	ctx := b.connContext(t.Context())
	call := func(handler func(*share)) {
		c, r := rpc.Of(httptest.NewRequestWithContext(ctx, "POST", "/roster.v1.DirectoryService/ListUsers", strings.NewReader(`{"pageSize":1000}`)))
		defer c.End()
		method := &rpc.Method{Policy: rpc.Policy{OwnReply: true}}
		newBody(time.Second).wrap(method, b.wrap(method, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			handler(rpc.From(r.Context()).Reply.(*share))
		}))).ServeHTTP(httptest.NewRecorder(), r)
	}
	const page = replyBudget/2 + 1
	held, made := make(chan bool), make(chan bool)
	ended := make(chan bool, 2)
	go call(func(s *share) {
		defer func() { ended <- true }()
		if s.weight != 0 {
			t.Errorf("a page is charged %d before its handler", s.weight)
		}
		if err := s.Hold(page); err != nil || s.weight != page {
			t.Errorf("a page of at most %d bytes is charged %d, %v", page, s.weight, err)
		}
		held <- true
		<-made
		if err := s.Hold(20_000); err != nil || s.weight != 20_000 {
			t.Errorf("a page of 20,000 bytes is charged %d, %v", s.weight, err)
		}
		held <- true
		<-made
	})
	<-held
	second := make(chan bool)
	go call(func(s *share) {
		defer func() { ended <- true }()
		if err := s.Hold(page); err != nil {
			t.Error(err)
		}
		close(second)
	})
	select {
	case <-second:
		t.Error("two pages of a connection are made at a time that do not fit its budget")
	case <-time.After(50 * time.Millisecond):
	}
	made <- true
	<-held
	<-second // fits beside what the first one has turned out to take
	made <- true
	<-ended
	<-ended
	if ratio := b.ratio.Load(); ratio != replyRatio {
		t.Errorf("after pages a reply is taken for %d times its request, want %d", ratio, replyRatio)
	}
	if !b.port.TryAcquire(portBudget) {
		t.Error("not everything was given back")
	}
}
