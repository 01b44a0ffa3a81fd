package directory_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"example.com/roster/directory"
)

// hanging is a store whose Revision does not come back while on.
type hanging struct {
	directory.Store
	on      atomic.Bool
	release chan struct{}
}

func (h *hanging) State(context.Context) (directory.State, error) {
	if h.on.Load() {
		<-h.release
	}
	return directory.State{Epoch: "e", Revision: 1}, nil
}

// A store that hangs does not hear that the time is up; who asks for its health does.
func TestHealthOfAStoreThatHangs(t *testing.T) {
	store := &hanging{release: make(chan struct{})}
	d, err := directory.New(t.Context(), store, directory.Config{PollInterval: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	store.on.Store(true)
	for range 2 {
		began := time.Now()
		if err := d.Health(t.Context()); !errors.Is(err, directory.ErrUnavailable) || time.Since(began) > 1500*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	}
	store.on.Store(false)
	close(store.release)
	for deadline := time.Now().Add(5 * time.Second); d.Health(t.Context()) != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the store is back, and not well")
		}
	}
}
