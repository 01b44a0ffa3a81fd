package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"example.com/roster/directory"
	"example.com/roster/directory/userfile"
)

// An importJob stores all that a reader has in one change, except the rows that are bad. If anything
// fails, it stores nothing.
type importJob struct {
	store  directory.Store
	reader *userfile.Reader
	// bad is told each row that is not taken.
	bad func(*userfile.RowError) error
	// finish has the last word before the commit. It is told how many users are stored, and returns how many
	// it has left.
	finish func(change directory.Import, stored int) (left int, err error)
}

// importActor is who has made the change of an import, in the history of the store.
const importActor = "roster import"

// The errors of rows that the reader has taken, and the store has not.
var (
	errDuplicate = errors.New("came before in this file")
	errTaken     = errors.New("email is taken")
)

// importUsers does the job, and returns how many users it has stored.
func importUsers(ctx context.Context, job importJob) (stored int, err error) {
	change, err := job.store.Import(ctx, importActor)
	if err != nil {
		return 0, err
	}
	defer change.Rollback()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := readBatches(ctx, job.reader)
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
			if err := job.bad(row); err != nil {
				return 0, err
			}
		}
		duplicates, err := change.Add(ctx, batch.users)
		if err != nil {
			return 0, err
		}
		for _, i := range duplicates {
			row := batch.rows[i]
			row.Err = fmt.Errorf("id %d %w", batch.users[i].ID, errDuplicate)
			if err := job.bad(&row); err != nil {
				return 0, err
			}
		}
		stored += len(batch.users) - len(duplicates)
		if batch.err != nil {
			return 0, batch.err
		}
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if stored, err = job.finish(change, stored); err != nil {
		return stored, err
	}
	// Commit looks at ctx once more: the signal that interrupts a pipeline may have ended the
	// program before this one, and so the file, a moment earlier.
	_, err = change.Commit(ctx)
	return stored, err
}

// A batch is a part of a file: users with their rows, which have no errors yet, and the bad rows among
// them.
type batch struct {
	users []directory.User
	rows  []userfile.RowError
	bad   []*userfile.RowError
	err   error // why the file cannot be read beyond this batch
}

// A batch ends at one of these bounds.
const (
	batchRows  = 1024
	batchBytes = 1 << 20 // of the text that is kept
)

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
	b.rows = make([]userfile.RowError, 0, batchRows)
	text := 0
	for len(b.users)+len(b.bad) < batchRows && text < batchBytes {
		user, err := reader.Next()
		row := (*userfile.RowError)(nil)
		switch {
		case err == nil:
			b.users = append(b.users, user)
			b.rows = append(b.rows, userfile.RowError{Line: reader.Line(), End: reader.End(), Text: reader.Text()})
			text += len(reader.Text())
		case errors.As(err, &row):
			b.bad = append(b.bad, row)
			text += len(row.Text)
		case err == io.EOF:
			return b, true
		default:
			b.err = err
			return b, true
		}
	}
	return b, false
}
