package bridge

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
)

// Of the callers that take too long to read, as many may stay as half of the bound has windows for. The others
// are ended, the slowest first. Nobody else is.
func TestSweepEndsTheSlowestCallers(t *testing.T) {
	m := newMemory(4<<20, 4<<20)
	most := int(m.limit / 2 / streamWindow)
	sending := func(since time.Duration) *call {
		c := m.begin(context.Background(), nil)
		if since > 0 {
			c.sending = time.Now().Add(-since)
		}
		return c
	}
	var slow, others []*call
	for i := range most + 3 {
		slow = append(slow, sending(time.Hour-time.Duration(i)*time.Second))
	}
	slices.Reverse(slow) // calls has no order, and the time decides
	for range 10 {
		others = append(others, sending(0), sending(time.Millisecond))
	}
	ctx, stop := context.WithCancel(t.Context())
	swept := make(chan struct{})
	go func() { defer close(swept); m.sweep(ctx) }()
	slowest, rest := slow[most:], slow[:most]
	for deadline := time.Now().Add(30 * time.Second); slowest[0].ended() == nil || slowest[1].ended() == nil || slowest[2].ended() == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the slowest callers have not been ended")
		}
	}
	stop()
	<-swept
	for _, c := range slowest {
		if err := c.ended(); connect.CodeOf(err) != connect.CodeResourceExhausted {
			t.Error(err)
		}
	}
	for _, c := range rest {
		if err := c.ended(); err != nil {
			t.Error("one of as many as may stay:", err)
		}
	}
	// That one of the others has become slow by now does no harm, since there are no more calls than may stay.
	for _, c := range others {
		if err := c.ended(); err != nil {
			t.Error("one that is not slow:", err)
		}
	}
	for _, c := range slices.Concat(slow, others) {
		c.leave()
	}
	if m.used != 0 || len(m.calls) != 0 {
		t.Error(m.used, len(m.calls))
	}
}

// With few calls, nobody is ended, however slow.
func TestSweepLeavesFewCallsAlone(t *testing.T) {
	m := newMemory(4<<20, 4<<20)
	c := m.begin(context.Background(), nil)
	c.sending = time.Now().Add(-time.Hour)
	m.endSlow(1)
	if err := c.ended(); err != nil {
		t.Error(err)
	}
	m.endSlow(0)
	if err := c.ended(); !errors.As(err, new(*connect.Error)) {
		t.Error(err)
	}
}
