package client_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/client"
)

func TestWaitReadyWaitsForAServerThatStarts(t *testing.T) {
	url := freeAddress()
	var calls atomic.Int32
	time.AfterFunc(200*time.Millisecond, func() {
		listener, err := relisten(url[len("http://"):])
		if err != nil {
			t.Error(err)
			return
		}
		serveOn(t, listener, handler(failing(2, connect.CodeUnavailable, &calls)))
	})
	// The context has no deadline, so the default one applies.
	if err := dial(t, url, client.Config{}).WaitReady(context.Background()); err != nil {
		t.Fatal(err)
	}
	if calls.Load() != 3 {
		t.Errorf("%d calls of Health, want 3", calls.Load())
	}
}

// The first process on the address hangs. The process that replaces it is reached, although the
// connection to the first is still open.
func TestWaitReadyDropsAConnectionThatSaysNothing(t *testing.T) {
	var first atomic.Bool
	first.Store(true)
	stuck := make(chan struct{})
	defer close(stuck)
	server := serveHTTP(t, handler(service{health: func(context.Context) error {
		if first.CompareAndSwap(true, false) {
			<-stuck
		}
		return nil
	}}))
	c := dial(t, server.url, client.Config{})
	if err := c.WaitReady(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	if n := server.connections.Load(); n < 2 {
		t.Errorf("%d connections, want another than the one that said nothing", n)
	}
}

func TestWaitReadyEndsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(100*time.Millisecond, cancel)
	start := time.Now()
	err := dial(t, freeAddress(), client.Config{}).WaitReady(ctx)
	if took := time.Since(start); took > time.Second {
		t.Errorf("it ended after %v, want at once", took)
	}
	expect(t, err, client.ReasonCanceled, connect.CodeCanceled)
	expectIs(t, err, context.Canceled)
	expectText(t, err, "nothing listens there")
}

func TestWaitReadyKeepsTheBetterDiagnosis(t *testing.T) {
	server := serveHTTP(t, handler(service{health: func(ctx context.Context) error {
		select {
		case <-time.After(150 * time.Millisecond):
		case <-ctx.Done():
		}
		return connect.NewError(connect.CodeUnavailable, context.Canceled)
	}}))
	err := dial(t, server.url, client.Config{}).WaitReady(within(t, time.Second))
	expect(t, err, client.ReasonUnavailable, connect.CodeUnavailable)
	expectIs(t, err, context.DeadlineExceeded)
}
