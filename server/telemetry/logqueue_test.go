package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// A gate is a writer that stands still until it is opened, as a pipe that nobody reads.
type gate struct {
	open chan struct{}
	mu   sync.Mutex
	got  bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.got.Write(p)
}

func textHandler(w io.Writer) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
}

func TestALogWhoseReaderStandsStillDropsLinesAndSaysHowMany(t *testing.T) {
	reader := &gate{open: make(chan struct{})}
	q := NewLogQueue(reader)
	log := q.Log(textHandler)
	const all = 20_000
	for i := range all { // returns, though nothing is read
		log.Info("line", "n", i)
	}
	dropped := q.Dropped()
	if dropped == 0 || dropped >= all {
		t.Fatalf("%d of %d lines were dropped", dropped, all)
	}
	close(reader.open)
	q.Close(time.Minute)
	got := strings.Split(strings.TrimSpace(reader.got.String()), "\n")
	kept := int(all - dropped)
	if len(got) != kept+1 {
		t.Fatalf("%d lines were written, want %d and the report", len(got), kept)
	}
	for i := range kept {
		if want := fmt.Sprintf("level=INFO msg=line n=%d", i); got[i] != want {
			t.Fatalf("line %d is %q, want %q", i, got[i], want)
		}
	}
	want := fmt.Sprintf(`level=WARN msg="log lines were dropped: the reader of the log was too slow" dropped=%d`, dropped)
	if got[kept] != want {
		t.Errorf("the last line is %q, want %q", got[kept], want)
	}
}

func TestALogQueueDoesNotWaitForeverAtTheEnd(t *testing.T) {
	q := NewLogQueue(&gate{open: make(chan struct{})})
	q.Log(textHandler).Info("line")
	q.Close(10 * time.Millisecond) // returns
	if _, err := q.Write([]byte("late\n")); err != nil || q.Dropped() != 1 {
		t.Errorf("a line after the end: %v, %d dropped", err, q.Dropped())
	}
	q.Close(0) // a second time does nothing
}

// refusing is a writer that fails, as a full disk or a pipe whose reader has gone, until it works.
type refusing struct {
	works bool
	half  bool // of the next write only half fits
	got   bytes.Buffer
}

func (r *refusing) Write(p []byte) (int, error) {
	if r.half {
		r.half = false
		n, _ := r.got.Write(p[:len(p)/2])
		return n, errors.New("no space")
	}
	if !r.works {
		return 0, errors.New("no space")
	}
	return r.got.Write(p)
}

func TestALogGoesOnWhenItsWriterWorksAgain(t *testing.T) {
	w := &refusing{half: true}
	q := &LogQueue{w: w, wake: make(chan struct{}, 1)} // without its goroutine
	log := q.Log(textHandler)
	log.Info("cut")
	q.empty(nil)
	log.Info("lost")
	q.empty(nil)
	w.works = true
	log.Info("kept")
	q.empty(nil)
	want := "level=INF\n" + `level=WARN msg="log lines were dropped: the reader of the log was too slow" dropped=2` + "\nlevel=INFO msg=kept\n"
	if got := w.got.String(); got != want || q.Dropped() != 2 {
		t.Errorf("got %q, want %q; %d dropped", got, want, q.Dropped())
	}
}

func TestLongLinesAndManyLinesAreWrittenWhole(t *testing.T) {
	var sizes []int
	var all bytes.Buffer
	w := writerFunc(func(p []byte) (int, error) { sizes = append(sizes, len(p)); return all.Write(p) })
	q := &LogQueue{w: w, wake: make(chan struct{}, 1)}
	var want bytes.Buffer
	for i := range 100 {
		line := strings.Repeat("x", 10+i*150) + "\n"
		want.WriteString(line)
		q.queued = append(q.queued, line...)
	}
	q.empty(nil)
	if all.String() != want.String() {
		t.Error("the lines did not come out as they went in")
	}
	if len(sizes) >= 100 || len(sizes) < 50 {
		t.Errorf("%d writes: short lines are to share one, longer ones have their own", len(sizes))
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A line that is longer than the queue is lost, and those after it are not.
func TestALineThatIsTooLongIsDroppedAlone(t *testing.T) {
	var got bytes.Buffer
	written := make(chan struct{}, 10)
	q := NewLogQueue(writerFunc(func(p []byte) (int, error) {
		defer func() { written <- struct{}{} }()
		return got.Write(p)
	}))
	log := q.Log(textHandler)
	log.Info(strings.Repeat("x", maxQueuedLog))
	<-written // the report
	log.Info("next")
	q.Close(time.Minute)
	want := `level=WARN msg="log lines were dropped: the reader of the log was too slow" dropped=1` + "\nlevel=INFO msg=next\n"
	if got.String() != want {
		t.Errorf("got %.300q, want %q", got.String(), want)
	}
}
