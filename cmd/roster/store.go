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

const storeUsage = "where the users are: a SQLite file, as PATH or sqlite:PATH"

// openStore opens what --store names.
func openStore(ctx context.Context, name string) (directory.Store, error) {
	if strings.HasPrefix(name, "postgres://") || strings.HasPrefix(name, "postgresql://") {
		return nil, usage("--store %s: this version has the SQLite store alone: give a file name", name)
	}
	return sqlite.Open(ctx, strings.TrimPrefix(name, "sqlite:"))
}

// importBatch is how many users an import adds at a time.
const importBatch = 1024

// importUsers stores all that reader has in one change, but for the rows that
// it calls bad for. If confirm fails at the end, or anything before, it stores
// nothing.
func importUsers(ctx context.Context, store directory.Store, reader *userfile.Reader,
	bad func(*userfile.RowError), confirm func() error) (stored int, err error) {
	change, err := store.Import(ctx)
	if err != nil {
		return 0, err
	}
	defer change.Rollback()
	batch := make([]directory.User, 0, importBatch)
	lines := make([]int, 0, importBatch)
	flush := func() error {
		duplicates, err := change.Add(ctx, batch)
		if err != nil {
			return err
		}
		for _, i := range duplicates {
			bad(&userfile.RowError{Line: lines[i], Err: fmt.Errorf("id %d came before in this file", batch[i].ID)})
		}
		stored += len(batch) - len(duplicates)
		batch, lines = batch[:0], lines[:0]
		return nil
	}
	for {
		user, err := reader.Next()
		row := (*userfile.RowError)(nil)
		switch {
		case err == nil:
			batch = append(batch, user)
			lines = append(lines, reader.Line())
		case errors.As(err, &row):
			bad(row)
		case err == io.EOF:
			if err := flush(); err != nil {
				return 0, err
			}
			if err := confirm(); err != nil {
				return 0, err
			}
			_, err := change.Commit(ctx)
			return stored, err
		default:
			return 0, err
		}
		if len(batch) == importBatch {
			if err := flush(); err != nil {
				return 0, err
			}
		}
	}
}

// loadSample puts the sample users into store if it is empty, and returns how
// many it put there.
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
