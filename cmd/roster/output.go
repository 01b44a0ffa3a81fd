package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/term"
)

// lastWrites is how long the last lines may take, at the end of the program or after a signal, where
// the reader of an output stands still.
const lastWrites = time.Second

// An output is standard output or standard error, to which a write ends soon after ctx has: a pipe
// that nobody reads must not keep a program running that was told to stop. Only roster serve never
// waits for its reader at all (see telemetry.LogQueue), since dropping lines is right for a log and
// wrong for everything else.
type output struct {
	ctx  context.Context
	file *os.File
}

// errInterrupted is the error of a write that a signal ended.
var errInterrupted = errors.New("interrupted")

func (o output) Write(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	written := make(chan result, 1)
	go func() {
		n, err := o.file.Write(p)
		written <- result{n, err}
	}()
	select {
	case r := <-written:
		return r.n, r.err
	case <-o.ctx.Done():
	}
	select {
	case r := <-written:
		return r.n, r.err
	case <-time.After(lastWrites):
		return 0, errInterrupted // and p belongs to the write for good: the program ends now
	}
}

// fileOf returns the file that a writer of a command is, nil if it is none, as in tests.
func fileOf(w io.Writer) *os.File {
	switch w := w.(type) {
	case output:
		return w.file
	case *os.File:
		return w
	}
	return nil
}

func isTerminal(w io.Writer) bool {
	file := fileOf(w)
	return file != nil && term.IsTerminal(int(file.Fd()))
}

// readerLeft reports whether err says that nobody reads standard output any more, as with
// `roster get 1 2 | head -1`. Other programs end there by SIGPIPE without a word. This one ignores
// that signal, because it would end a server too, and a command in the middle of a change.
func readerLeft(err error) bool {
	var failed *fs.PathError
	return errors.As(err, &failed) && failed.Path == os.Stdout.Name() && failed.Err == syscall.EPIPE
}
