package telemetry

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// maxQueuedLog is how many bytes of lines may wait for the reader of the log. As many again may
	// be on their way to it.
	maxQueuedLog = 256 << 10
	// logWrite is how many bytes one write has at most, unless a single line is longer. A pipe takes
	// that many in one piece (PIPE_BUF of Linux), so lines of several processes do not mix.
	logWrite = 4096
)

// A LogQueue passes what is written to it on to a slow writer, such as standard error, without ever
// waiting for that: a call must not stop because the reader of the log has. What does not fit into
// the queue is dropped and counted. Once the writer accepts bytes again, a line of the log says how
// many lines it lacks.
//
//	queue := telemetry.NewLogQueue(os.Stderr)
//	queue.Log(func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) })
//	defer queue.Close(time.Second)
type LogQueue struct {
	w     io.Writer
	wake  chan struct{} // has room for one: there is something to write
	ended chan struct{} // closed when the last write has returned

	mu      sync.Mutex
	queued  []byte // whole lines
	missing uint64 // lines dropped after the last that is in queued
	dropped uint64 // lines dropped in all
	closed  bool
	report  func(missing uint64) []byte

	// Of the goroutine that writes.
	untold uint64 // lines dropped that no report has told of
	torn   bool   // the last write ended inside a line
}

// NewLogQueue returns the queue of w. Close has to be called at the end of the program.
func NewLogQueue(w io.Writer) *LogQueue {
	q := &LogQueue{w: w, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go q.pass()
	return q
}

// Log returns a logger that writes to the queue. The handler is made twice: once for the queue, and
// once for the line that says how many lines were dropped, which does not pass through the queue.
func (q *LogQueue) Log(handler func(io.Writer) slog.Handler) *slog.Logger {
	var line bytes.Buffer
	direct := handler(&line)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.report = func(missing uint64) []byte {
		line.Reset()
		record := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines were dropped: the reader of the log was too slow", 0)
		record.AddAttrs(slog.Uint64("dropped", missing))
		_ = direct.Handle(context.Background(), record) // a buffer takes everything
		return line.Bytes()
	}
	return slog.New(handler(q))
}

// Write implements io.Writer. p is one line or several whole ones. It never fails and never waits.
func (q *LogQueue) Write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// Once a line has been dropped, so are those after it, until the queue is emptied: the report then
	// stands exactly where they are missing.
	if q.closed || q.missing > 0 || len(q.queued)+len(p) > maxQueuedLog {
		q.missing += lines(p)
		q.dropped += lines(p)
	} else {
		q.queued = append(q.queued, p...)
	}
	if q.closed {
		return len(p), nil
	}
	select {
	case q.wake <- struct{}{}:
	default: // it is awake already
	}
	return len(p), nil
}

// Dropped returns how many lines have been dropped so far.
func (q *LogQueue) Dropped() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// Close writes what is queued, but waits for the writer no longer than timeout. What is written to
// the queue after that is dropped.
func (q *LogQueue) Close(timeout time.Duration) {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.wake)
	}
	q.mu.Unlock()
	select {
	case <-q.ended:
	case <-time.After(timeout):
	}
}

// pass writes the queue until it is closed.
func (q *LogQueue) pass() {
	defer close(q.ended)
	var spare []byte
	for range q.wake {
		spare = q.empty(spare)
	}
	q.empty(spare)
}

// empty writes until nothing is queued. It returns a buffer to be used again.
func (q *LogQueue) empty(spare []byte) []byte {
	for {
		q.mu.Lock()
		batch, missing, report := q.queued, q.missing, q.report
		if len(batch) == 0 && missing == 0 {
			q.mu.Unlock()
			return spare
		}
		q.queued, q.missing = spare[:0], 0
		q.mu.Unlock()

		q.tell(report) // of lines that the writer refused before
		lost := q.write(batch)
		q.untold += lost + missing
		q.tell(report)
		spare = batch

		q.mu.Lock()
		q.dropped += lost
		q.mu.Unlock()
	}
}

// tell writes the line that says how many were dropped. It is tried again with the next batch if the
// writer does not take it.
func (q *LogQueue) tell(report func(uint64) []byte) {
	if q.untold > 0 && report != nil && q.write(report(q.untold)) == 0 {
		q.untold = 0
	}
}

// write writes whole lines, and returns how many of them the writer refused.
func (q *LogQueue) write(batch []byte) (lost uint64) {
	for len(batch) > 0 {
		end := len(batch)
		if end > logWrite {
			if end = bytes.LastIndexByte(batch[:logWrite], '\n') + 1; end == 0 {
				end = logWrite + bytes.IndexByte(batch[logWrite:], '\n') + 1 // a longer line
			}
		}
		if q.torn {
			// A full disk can take half a line. The next one must not be glued to it.
			_, err := q.w.Write([]byte("\n"))
			q.torn = err != nil
		}
		n, err := q.w.Write(batch[:end])
		if err != nil {
			lost += lines(batch[n:end])
			q.torn = q.torn || n > 0 && batch[n-1] != '\n'
		}
		batch = batch[end:]
	}
	return lost
}

// lines returns how many lines p has.
func lines(p []byte) uint64 { return uint64(max(1, bytes.Count(p, []byte("\n")))) }
