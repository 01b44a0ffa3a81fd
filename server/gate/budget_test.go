package gate

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
	"example.com/roster/server/rpc"
)

// A request is charged by the size that it may have once it is unpacked.
func TestUnpackedSize(t *testing.T) {
	for _, test := range []struct {
		method, target, name, encoding string
		size, most, want               int64
	}{
		{"POST", "/", "Grpc-Encoding", "", 60, 1 << 20, 60},
		{"POST", "/", "Grpc-Encoding", "identity", 60, 1 << 20, 60},
		{"POST", "/", "Grpc-Encoding", "gzip", 60, 1 << 20, 42 * 1032},
		{"POST", "/", "Grpc-Encoding", "gzip", 4000, 1 << 20, 1 << 20},
		{"POST", "/", "Content-Encoding", "gzip", 19, 1 << 20, 1032},
		{"POST", "/", "Connect-Content-Encoding", "gzip", 5, 1 << 20, 5},
		{"GET", "/?compression=gzip", "X", "", 118, 1 << 20, 100 * 1032},
	} {
		r := httptest.NewRequest(test.method, test.target, nil)
		r.Header.Set(test.name, test.encoding)
		if test.name == "Grpc-Encoding" {
			r.Header.Set("Content-Type", "application/grpc")
		}
		if got := unpackedSize(r, test.size, test.most); got != test.want {
			t.Errorf("%+v: %d", test, got)
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
		if err := s.take(r, longRequest/2, replyFactor); err != nil {
			t.Fatal(err)
		}
	}
	if err := short.take(r, shortRequest, replyFactor); err != nil {
		t.Errorf("a short request waits: %v", err)
	}
	if err := other.take(elsewhere, 1<<30, replyFactor); err != nil {
		t.Errorf("another connection waits: %v", err)
	}
	taken := make(chan *connect.Error, 1)
	go func() { taken <- third.take(r, longRequest/2, replyFactor) }()
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
	if err := late.take(r, longRequest, replyFactor); err.Code() != connect.CodeCanceled {
		t.Errorf("a cancelled call: %v", err)
	}
}
