package directory_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/roster/directory"
	"example.com/roster/directory/storetest"
)

// stated is a store that counts how often it is asked for its state, and takes a while to answer.
type stated struct {
	directory.Store
	asked atomic.Int64
}

func (s *stated) State(ctx context.Context) (directory.State, error) {
	s.asked.Add(1)
	time.Sleep(10 * time.Millisecond)
	return s.Store.State(ctx)
}

// A thousand watches that begin at once, as after a restart, share what the store is asked: if each of them
// asked, the health check would wait behind them, and say that the store does not answer.
func TestManyWatchesBeginAtOnce(t *testing.T) {
	store := &stated{Store: storetest.NewMemory().Open()}
	d := newDirectory(t, store, directory.Config{PollInterval: time.Hour})
	put(t, d, named(1, "Ann"))
	const watches = 1000
	begin := make(chan struct{})
	var group sync.WaitGroup
	for range watches {
		group.Go(func() {
			<-begin
			w, err := d.Watch(t.Context(), directory.WatchFrom{})
			if err != nil {
				t.Error(err)
				return
			}
			defer w.Close()
			if upTo, _ := w.Progress(); upTo.Revision != 1 {
				t.Errorf("a watch from now begins at revision %d", upTo.Revision)
			}
		})
	}
	close(begin)
	group.Wait()
	if n := store.asked.Load(); n > watches/10 {
		t.Errorf("%d watches asked the store %d times for its state", watches, n)
	}
}

// What waits for a poll after the directory was closed does not wait for ever.
func TestNobodyWaitsForAClosedDirectory(t *testing.T) {
	d, err := directory.New(t.Context(), storetest.NewMemory().Open(), directory.Config{PollInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := d.WaitFor(t.Context(), 1); err == nil {
		t.Error("a revision that nobody has made is seen")
	}
	if _, err := d.Watch(t.Context(), directory.WatchFrom{}); err == nil {
		t.Error("a closed directory can be watched")
	}
}
