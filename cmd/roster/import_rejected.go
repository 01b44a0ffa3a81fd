package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

// A rejectedFile gets the bad rows of a file, so that they can be mended and imported. It is created
// with the first of them. A nil one does nothing.
type rejectedFile struct {
	path   string
	header string // of a CSV
	file   *os.File
	writer *bufio.Writer
	rows   int64
}

// add adds the text of a row.
func (r *rejectedFile) add(text string) error {
	if r == nil {
		return nil
	}
	if r.file == nil {
		// The rows are people's data, and an older file may be the only copy of its rows.
		file, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("--rejected: %w", err)
		}
		r.file, r.writer = file, bufio.NewWriter(file)
		if r.header != "" {
			fmt.Fprintf(r.writer, "%s\n", r.header)
		}
	}
	r.rows++
	if _, err := fmt.Fprintf(r.writer, "%s\n", text); err != nil {
		return fmt.Errorf("--rejected: %w", err)
	}
	return nil
}

// close writes everything to disk, before anything is imported without these rows.
func (r *rejectedFile) close() error {
	if r == nil || r.file == nil {
		return nil
	}
	err := r.writer.Flush()
	if err == nil {
		err = r.file.Sync()
	}
	if closing := r.file.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return fmt.Errorf("--rejected: %w", err)
	}
	return nil
}

// remove removes the file.
func (r *rejectedFile) remove() {
	if r != nil && r.file != nil {
		r.file.Close()
		os.Remove(r.path)
	}
}

// tell says where the rows are.
func (r *rejectedFile) tell(w io.Writer) {
	if r != nil && r.rows > 0 {
		fmt.Fprintf(w, "%s in %s: correct that file and import it\n", quantity(r.rows, "bad row is", "bad rows are"), r.path)
	}
}
