package directory_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/roster/directory"
)

func TestHealth(t *testing.T) {
	store := openStore(t, filepath.Join(t.TempDir(), "r.db"))
	d := newDirectory(t, store, directory.Config{})
	if err := d.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	store.Store.Close()
	if err := d.Health(t.Context()); err == nil {
		t.Fatal("healthy without a store")
	}
}

// silent is a store that never answers.
type silent struct{ directory.Store }

func (silent) State(ctx context.Context) (directory.State, error) {
	<-ctx.Done()
	return directory.State{}, ctx.Err()
}

func (silent) Compact(context.Context) error { return nil }

type awake struct {
	silent
	asleep atomic.Bool
}

func (a *awake) State(ctx context.Context) (directory.State, error) {
	if a.asleep.Load() {
		return a.silent.State(ctx)
	}
	return directory.State{Epoch: "e", Revision: 1}, nil
}

func TestHealthWaitsOneSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &awake{}
		d, err := directory.New(t.Context(), store, directory.Config{PollInterval: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		store.asleep.Store(true)
		began := time.Now()
		err = d.Health(t.Context())
		if !errors.Is(err, directory.ErrUnavailable) || time.Since(began) != time.Second {
			t.Fatalf("after %v: %v", time.Since(began), err)
		}
	})
}

// The status follows the store, says so to who waits, and costs it nothing.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		store := &awake{}
		d, err := directory.New(t.Context(), store, directory.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		well := d.Status()
		if well.Err != nil {
			t.Fatal(well.Err)
		}
		store.asleep.Store(true)
		began := time.Now()
		<-well.Changed()
		// A poll every quarter of a second, which then waits for one.
		if took := time.Since(began); took > 1250*time.Millisecond {
			t.Errorf("noticed after %v", took)
		}
		ill := d.Status()
		if !errors.Is(ill.Err, directory.ErrUnavailable) || !strings.Contains(ill.Err.Error(), "no answer within 1s") {
			t.Fatalf("got %v", ill.Err)
		}
		time.Sleep(time.Minute)
		if d.Status() != ill {
			t.Error("the same again is a change")
		}
		store.asleep.Store(false)
		<-ill.Changed()
		if err := d.Status().Err; err != nil {
			t.Error(err)
		}
		if lines := strings.Count(log.String(), "\n"); lines != 2 || !strings.Contains(log.String(), "the store does not answer") ||
			!strings.Contains(log.String(), "the store answers again") {
			t.Errorf("the log has:\n%s", log.String())
		}
	})
}

// Who waits for a store that does not answer any more is told so with the status, and who comes
// then does not wait at all; what is in memory is answered.
func TestNobodyWaitsForAStoreThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &deaf{let: make(chan struct{})}
		d, err := directory.New(t.Context(), store, directory.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if _, err := d.Users(t.Context(), []int32{1}); err != nil {
			t.Fatal(err)
		}
		store.asleep.Store(true)
		began := time.Now()
		if _, err := d.Users(t.Context(), []int32{2}); !errors.Is(err, directory.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took > 1250*time.Millisecond {
			t.Errorf("the first waited %v", took)
		}
		began = time.Now()
		for range 100 {
			if _, err := d.Users(t.Context(), []int32{1, 3}); !errors.Is(err, directory.ErrUnavailable) {
				t.Errorf("got %v", err)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("the next waited %v", took)
		}
		if _, err := d.Users(t.Context(), []int32{1, 1}); err != nil {
			t.Errorf("what is in memory: %v", err)
		}
		store.asleep.Store(false)
		close(store.let)
		<-d.Status().Changed()
		if _, err := d.Users(t.Context(), []int32{3}); err != nil {
			t.Error(err)
		}
	})
}

// deaf is a store that does not even hear that the context is done.
type deaf struct {
	awake
	let chan struct{}
}

func (d *deaf) State(ctx context.Context) (directory.State, error) {
	if d.asleep.Load() {
		<-d.let
	}
	return directory.State{Epoch: "e", Revision: 1}, nil
}

func (d *deaf) Get(context.Context, []int32) ([]directory.Record, directory.State, error) {
	if d.asleep.Load() {
		<-d.let
	}
	return nil, directory.State{Epoch: "e", Revision: 1}, nil
}

func TestStatusOfAStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &deaf{let: make(chan struct{})}
		d, err := directory.New(t.Context(), store, directory.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		well := d.Status()
		store.asleep.Store(true)
		<-well.Changed()
		ill := d.Status()
		if !errors.Is(ill.Err, directory.ErrUnavailable) {
			t.Fatalf("got %v", ill.Err)
		}
		close(store.let)
		<-ill.Changed()
		if err := d.Status().Err; err != nil {
			t.Error(err)
		}
	})
}
