package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

// An input is the file that is imported.
type input struct {
	io.Reader
	file  *os.File // nil for standard input that is not a regular file
	start int64    // where it begins in file
	size  int64    // in bytes, -1 if it is unknown
}

// openInput opens name, or standard input for "-". It returns when ctx is done even if name is a FIFO
// that nobody has opened for writing.
func openInput(ctx context.Context, cmd *cobra.Command, name string) (*input, error) {
	if name == "-" {
		in := &input{Reader: cmd.InOrStdin(), size: -1}
		if file, ok := in.Reader.(*os.File); ok {
			// Whoever has read from it before leaves the rest.
			start, failed := file.Seek(0, io.SeekCurrent)
			if info, err := file.Stat(); err == nil && failed == nil && info.Mode().IsRegular() {
				in.file, in.start, in.size = file, start, info.Size()-start
			}
		}
		return in, nil
	}
	file, err := waitFor(ctx, func() (*os.File, error) { return os.Open(name) })
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory: import takes a file", name)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	in := &input{Reader: file, file: file, size: -1}
	if info.Mode().IsRegular() {
		in.size = info.Size()
	}
	return in, nil
}

// spool copies what is not a regular file into a temporary one, which has no name any more, and reads
// that from then on.
func (in *input) spool(ctx context.Context, stderr io.Writer, name string) error {
	if in.size >= 0 {
		return nil
	}
	temporary, err := os.CreateTemp("", "roster-import-")
	if err != nil {
		return fmt.Errorf("keep %s until its end: %w", name, err)
	}
	if err := os.Remove(temporary.Name()); err != nil {
		temporary.Close()
		return fmt.Errorf("keep %s until its end: %w", name, err)
	}
	bar := newProgressBar(stderr, -1, name)
	size, err := waitFor(ctx, func() (int64, error) { return io.Copy(io.MultiWriter(temporary, bar), in.Reader) })
	bar.Clear()
	if err != nil {
		// The copying may still be waiting for the pipe; it ends with the program.
		return fmt.Errorf("keep %s until its end: %w", name, err)
	}
	in.close()
	in.Reader, in.file, in.start, in.size = temporary, temporary, 0, size
	return in.rewind()
}

// rewind begins again with a file that was spooled, or is a regular one.
func (in *input) rewind() error {
	_, err := in.file.Seek(in.start, io.SeekStart)
	return err
}

func (in *input) close() {
	if in.file != nil {
		in.file.Close()
	}
}

// waitFor calls do, but returns when ctx is done: what do waits for may never come.
func waitFor[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := do()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// newProgressBar returns a progress bar that is drawn only on a terminal.
func newProgressBar(w io.Writer, size int64, name string) *progressbar.ProgressBar {
	return progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetVisibility(isTerminal(w)),
		progressbar.OptionSetDescription(name),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
}
