package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	"example.com/roster/directory/userfile"
	"example.com/roster/examples"
)

const (
	defaultStore = "roster.db"
	storeHelp    = "where the users are kept: a SQLite file, as PATH or sqlite:PATH"
)

// checkStore refuses the --store that openStore cannot open.
func checkStore(name string) error {
	switch {
	case strings.HasPrefix(name, "sqlite://"):
		return usage("--store %s: write sqlite:PATH, without the slashes", redactStore(name))
	case isDatabaseURL(name):
		return usage("--store %s: this version has only the SQLite store: give a file name", redactStore(name))
	}
	return nil
}

// openStore opens what --store names.
func openStore(ctx context.Context, name string) (directory.Store, error) {
	return sqlite.Open(ctx, strings.TrimPrefix(name, "sqlite:"))
}

// importUsers stores all that reader has in one change, except the rows that it calls bad for. If
// confirm fails at the end, or anything before, it stores nothing.
func importUsers(ctx context.Context, store directory.Store, reader *userfile.Reader,
	bad func(*userfile.RowError), confirm func() error) (stored int, err error) {
	change, err := store.Import(ctx)
	if err != nil {
		return 0, err
	}
	defer change.Rollback()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := readBatches(ctx, reader)
	for {
		var batch batch
		more := false
		select {
		case batch, more = <-batches:
		case <-ctx.Done(): // even if the reader still waits for a pipe
		}
		if !more {
			break
		}
		for _, row := range batch.bad {
			bad(row)
		}
		duplicates, err := change.Add(ctx, batch.users)
		if err != nil {
			return 0, err
		}
		for _, i := range duplicates {
			bad(&userfile.RowError{Line: batch.lines[i], Err: fmt.Errorf("id %d came before in this file", batch.users[i].ID)})
		}
		stored += len(batch.users) - len(duplicates)
		if batch.err != nil {
			return 0, batch.err
		}
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := confirm(); err != nil {
		return 0, err
	}
	// Commit looks at ctx once more: the signal that interrupts a pipeline may have ended the
	// program before this one, and so the file, a moment earlier.
	_, err = change.Commit(ctx)
	return stored, err
}

// A batch is a part of a file: users with their lines, and the bad rows among them.
type batch struct {
	users []directory.User
	lines []int
	bad   []*userfile.RowError
	err   error // why the file cannot be read beyond this batch
}

const batchRows = 1024

// readBatches reads ahead of the store, so that reading and writing overlap. It ends when the file
// or ctx does.
func readBatches(ctx context.Context, reader *userfile.Reader) <-chan batch {
	batches := make(chan batch, 2)
	go func() {
		defer close(batches)
		for {
			next, end := readBatch(reader)
			select {
			case batches <- next:
			case <-ctx.Done():
				return
			}
			if end {
				return
			}
		}
	}()
	return batches
}

func readBatch(reader *userfile.Reader) (b batch, end bool) {
	b.users = make([]directory.User, 0, batchRows)
	b.lines = make([]int, 0, batchRows)
	for len(b.users)+len(b.bad) < batchRows {
		user, err := reader.Next()
		row := (*userfile.RowError)(nil)
		switch {
		case err == nil:
			b.users = append(b.users, user)
			b.lines = append(b.lines, reader.Line())
		case errors.As(err, &row):
			b.bad = append(b.bad, row)
		case err == io.EOF:
			return b, true
		default:
			b.err = err
			return b, true
		}
	}
	return b, false
}

// loadSample puts the sample users into store if it is empty, and returns how many it put there.
func loadSample(ctx context.Context, store directory.Store) (int, error) {
	count, err := store.Count(ctx)
	if err != nil || count > 0 {
		return 0, err
	}
	reader, err := userfile.NewReader(bytes.NewReader(examples.Users), userfile.CSV)
	if err != nil {
		return 0, err
	}
	var wrong error
	return importUsers(ctx, store, reader,
		func(row *userfile.RowError) { wrong = row },
		func() error { return wrong })
}
