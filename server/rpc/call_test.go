package rpc_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/server/rpc"
)

type key struct{}

type another struct{}

func newCall(ctx context.Context) (*rpc.Call, context.Context) {
	c, r := rpc.Of(httptest.NewRequestWithContext(ctx, "POST", "/MyService/User", nil))
	return c, r.Context()
}

func TestFromFindsTheCallBeneathOtherContexts(t *testing.T) {
	c, ctx := newCall(context.WithValue(t.Context(), key{}, "kept"))
	below, cancel := context.WithTimeout(context.WithValue(ctx, another{}, 1), time.Minute)
	defer cancel()
	if rpc.From(below) != c || below.Value(key{}) != "kept" {
		t.Errorf("From = %p, want %p; the value above is %v, want kept", rpc.From(below), c, below.Value(key{}))
	}
	if rpc.From(t.Context()) != nil {
		t.Error("a context without a call has one")
	}
}

func TestCode(t *testing.T) {
	c, _ := newCall(t.Context())
	if c.Code() != 0 {
		t.Errorf("Code = %v, want 0", c.Code())
	}
	c.Failure = connect.NewError(connect.CodeUnavailable, nil)
	if c.Code() != connect.CodeUnavailable {
		t.Errorf("Code = %v, want unavailable", c.Code())
	}
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, ctx := newCall(context.Background())
		defer c.End()
		start := time.Now()
		c.Limit(start.Add(time.Second))
		if deadline, ok := ctx.Deadline(); !ok || !deadline.Equal(start.Add(time.Second)) {
			t.Errorf("Deadline = %v, %v, want a second from the start", deadline, ok)
		}
		if ctx.Err() != nil {
			t.Errorf("Err = %v before the deadline", ctx.Err())
		}
		<-ctx.Done()
		if took := time.Since(start); took != time.Second || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Errorf("done after %v with %v, want 1s and DeadlineExceeded", took, ctx.Err())
		}
	})
}

// The deadline holds although nothing waited for the context, so that no timer was started.
func TestLimitWithoutATimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, ctx := newCall(context.Background())
		c.Limit(time.Now().Add(time.Second))
		time.Sleep(time.Second)
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Errorf("Err = %v, want DeadlineExceeded", ctx.Err())
		}
	})
}

func TestTheEarlierDeadlineHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		early := time.Now().Add(time.Second)
		parent, cancel := context.WithDeadline(context.Background(), early)
		defer cancel()
		c, ctx := newCall(parent)
		defer c.End()
		c.Limit(early.Add(time.Hour))
		if deadline, _ := ctx.Deadline(); !deadline.Equal(early) {
			t.Errorf("Deadline = %v, want %v", deadline, early)
		}
		<-ctx.Done()
		if time.Now().After(early) {
			t.Error("done later than the parent")
		}
	})
}

func TestParentCancels(t *testing.T) {
	for name, limit := range map[string]time.Duration{"with a deadline": time.Minute, "without": 0} {
		t.Run(name, func(t *testing.T) {
			parent, cancel := context.WithCancel(t.Context())
			c, ctx := newCall(parent)
			defer c.End()
			if limit > 0 {
				c.Limit(time.Now().Add(limit))
			}
			child, stop := context.WithCancel(ctx)
			defer stop()
			ran := make(chan struct{})
			context.AfterFunc(ctx, func() { close(ran) })
			cancel()
			<-ran
			<-child.Done()
			if !errors.Is(ctx.Err(), context.Canceled) {
				t.Errorf("Err = %v, want Canceled", ctx.Err())
			}
		})
	}
}

func TestCancel(t *testing.T) {
	for name, waited := range map[string]bool{"while somebody waits": true, "before anybody waits": false} {
		t.Run(name, func(t *testing.T) {
			c, ctx := newCall(t.Context())
			defer c.End()
			if waited {
				child, stop := context.WithCancel(ctx)
				defer stop()
				ctx = child
			}
			c.Cancel()
			<-ctx.Done()
			if !errors.Is(ctx.Err(), context.Canceled) {
				t.Errorf("Err = %v, want Canceled", ctx.Err())
			}
		})
	}
}

// A goroutine for each call would cost a tenth of the CPU of a call to another server.
func TestContextsBeneathACallNeedNoGoroutine(t *testing.T) {
	for name, limit := range map[string]time.Duration{"with a deadline": time.Minute, "without": 0} {
		t.Run(name, func(t *testing.T) {
			c, ctx := newCall(t.Context())
			defer c.End()
			if limit > 0 {
				c.Limit(time.Now().Add(limit))
			}
			const many = 100
			before := runtime.NumGoroutine()
			for range many {
				_, cancel := context.WithCancel(context.WithValue(ctx, another{}, 1))
				defer cancel()
			}
			if more := runtime.NumGoroutine() - before; more >= many {
				t.Errorf("%d contexts needed %d goroutines", many, more)
			}
		})
	}
}

// Of uses the record that the HTTP server has created, and passes the request on unchanged.
func TestOfFindsTheRecordThatTheServerMade(t *testing.T) {
	ctx := rpc.NewContext(context.WithValue(t.Context(), key{}, "kept"))
	request := httptest.NewRequestWithContext(ctx, "POST", "/MyService/User", nil)
	c, passed := rpc.Of(request)
	if passed != request || context.Context(c) != ctx || c.Start.IsZero() || passed.Context().Value(key{}) != "kept" {
		t.Errorf("Of made another request or record: %p and %p, want %p and %p", passed, c, request, ctx)
	}
}
