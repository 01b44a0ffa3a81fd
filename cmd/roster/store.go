package main

import (
	"bytes"
	"context"
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

// loadSample puts the sample users into store if it is empty, and returns how many it put there.
func loadSample(ctx context.Context, store directory.Store) (int, error) {
	count, err := store.Count(ctx)
	if err != nil || count > 0 {
		return 0, err
	}
	reader, err := userfile.NewReader(bytes.NewReader(examples.Users), userfile.Options{Format: userfile.CSV})
	if err != nil {
		return 0, err
	}
	return importUsers(ctx, importJob{
		store:  store,
		reader: reader,
		bad:    func(row *userfile.RowError) error { return row },
		finish: func(directory.Import, int) error { return nil },
	})
}
