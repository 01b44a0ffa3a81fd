package gate

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"example.com/roster/server/rpc"
)

// Once a limit is nearly reached, nobody holds all of what is left.
func TestTheReserveOfALimitIsSharedOut(t *testing.T) {
	budget := newBudget()
	from := func(address string) *http.Request {
		r := httptest.NewRequestWithContext(budget.connContext(context.Background()), "POST", "/", nil)
		r.RemoteAddr = address + ":1"
		_, r = rpc.Of(r)
		return r
	}
	l := newLimit(700, 640, 10, 4)
	var claims []claim
	take := func(r *http.Request, times int) (taken int) {
		for range times {
			if c, ok := l.take(r, 1); ok {
				claims = append(claims, c)
				taken++
			}
		}
		return taken
	}
	greedy := from("192.0.2.1")
	if got := take(greedy, 1000); got != 60+4 {
		t.Errorf("one connection took %d, want 60 and 4 of the reserve", got)
	}
	if got := take(from("192.0.2.1"), 1000); got != 4 {
		t.Errorf("the caller's second connection took %d, want 4", got)
	}
	if got := take(from("192.0.2.1"), 1000) + take(from("192.0.2.1"), 1000); got != 2 {
		t.Errorf("the caller's third and fourth took %d, want the 2 that are left to the caller", got)
	}
	if got := take(from("192.0.2.2"), 1000); got != 4 {
		t.Errorf("another caller took %d, want 4", got)
	}
	for i := range claims {
		claims[i].giveBack()
	}
	if used := l.used.Load(); used != 0 || len(l.held) != 0 {
		t.Errorf("%d are used after all is given back, by %d holders", used, len(l.held))
	}
	if got := take(from("192.0.2.3"), 60); got != 60 {
		t.Errorf("then one takes %d, want 60", got)
	}
	l = newLimit(700, 640, 640, 640)
	for n := range 40 {
		take(from(fmt.Sprintf("192.0.2.%d", n)), 1000)
	}
	if got := take(from("192.0.2.99"), 1); got != 1 {
		t.Error("forty callers left nothing for another one")
	}
}

func TestALimitIsNotExceeded(t *testing.T) {
	l := newLimit(2, 0, 0, 0)
	r := httptest.NewRequest("POST", "/", nil)
	for i, want := range []bool{true, true, false} {
		if _, ok := l.take(r, 1); ok != want {
			t.Errorf("claim %d: %v", i, ok)
		}
	}
}

// Long requests that arrive in pieces hold what has arrived, and give it back.
func TestWhatArrivesIsCounted(t *testing.T) {
	p := newPort(t, nil)
	message, rest := io.Pipe()
	done := make(chan int)
	go func() {
		status, _ := p.send(p.look, "POST", message)
		done <- status
	}()
	used := &p.chain.body.receiving.used
	for _, step := range []struct{ bytes, held int64 }{{400, 0}, {1000, 2048}, {10_000, 32_768}} {
		_, _ = rest.Write(make([]byte, step.bytes))
		for range 100 {
			if used.Load() == step.held {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if got := used.Load(); got != step.held {
			t.Errorf("%d bytes are held after another %d, want %d", got, step.bytes, step.held)
		}
	}
	rest.Close()
	if status := <-done; status != 200 || used.Load() != 0 {
		t.Errorf("status %d, %d bytes are still held", status, used.Load())
	}
}
