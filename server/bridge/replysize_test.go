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

// Short calls with small replies and long ones with large replies share a method. Together the large ones
// need more than the bound, so they come one after the other, however many short calls end meanwhile.
func TestLargeRepliesAmongSmallOnesLoseNoCall(t *testing.T) {
	p := startServer(t, "")
	learnt, release := false, make(chan struct{})
	p.service.wait = func(request *testgrpc.SimpleRequest) {
		if request.GetResponseSize() == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
		if learnt {
			<-release // so that the replies come at the same time
		}
	}
	url, b := serveBridge(t, bridge.Config{Upstreams: upstream(t, "http://"+p.address)})
	mounted(t, b)
	client := unary(url, connect.WithGRPC())
	call := func(size int32) error {
		_, err := client.CallUnary(t.Context(), connect.NewRequest(&testgrpc.SimpleRequest{ResponseSize: size}))
		return err
	}
	const large = 400_000
	for range 3 { // from these the bridge learns
		if err := call(large); err != nil {
			t.Fatal(err)
		}
	}
	learnt = true
	time.AfterFunc(2*time.Second, func() { close(release) })
	var failed atomic.Int64
	var calls sync.WaitGroup
	for range 60 {
		for range 20 {
			if err := call(0); err != nil {
				t.Fatal(err)
			}
		}
		calls.Go(func() {
			if err := call(large); err != nil && failed.Add(1) == 1 {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d calls failed", n)
	}
}
