package bridge_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"example.com/roster/server/bridge"
)

// Short calls with small replies and longer ones with large replies share a method. When their server stands
// still for a moment, the large replies that wait need more than the bound: so not all are called at once,
// whatever the calls before them got.
func TestLargeRepliesAmongSmallOnesLoseNoCall(t *testing.T) {
	p := startServer(t, "")
	var paused sync.RWMutex // locked while the server stands still
	p.service.wait = func(request *testgrpc.SimpleRequest) {
		if request.GetResponseSize() > 0 {
			time.Sleep(200 * time.Millisecond)
		}
		paused.RLock()
		defer paused.RUnlock()
	}
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+p.address)})
	mounted(t, b)
	client := unary(url, connect.WithGRPC())
	call := func(size int32) error {
		_, err := client.CallUnary(t.Context(), connect.NewRequest(&testgrpc.SimpleRequest{ResponseSize: size}))
		return err
	}
	const large, small, fives = 400_000, 0, 60
	var failed atomic.Int64
	var calls sync.WaitGroup
	both := func(call func(size int32)) {
		call(large)
		for range 5 {
			call(small)
		}
	}
	must := func(size int32) {
		if err := call(size); err != nil && failed.Add(1) == 1 {
			t.Error(err)
		}
	}
	for range 5 { // from these the bridge learns
		both(must)
	}
	for range 100 {
		must(small)
	}
	paused.Lock()
	for range fives {
		both(func(size int32) { calls.Go(func() { must(size) }) })
	}
	time.Sleep(2 * time.Second)
	paused.Unlock()
	calls.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d calls failed", n)
	}
}
