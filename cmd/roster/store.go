package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// openStore opens what --store names. Without create there must be such a store. created gets a
// sentence if it did not exist, and warn one for what is suspicious about it.
func openStore(ctx context.Context, name string, create bool, created, warn func(string)) (directory.Store, error) {
	return openStoreKeeping(ctx, sqlite.History{}, name, create, created, warn)
}

// openStoreKeeping is openStore, but says how much of the history the store keeps.
func openStoreKeeping(ctx context.Context, history sqlite.History, name string, create bool, created, warn func(string)) (directory.Store, error) {
	config := sqlite.Config{MustExist: !create, Warn: warn, History: history, Created: func() {
		created("the store " + redactStore(name) + " did not exist and has been created, empty")
	}}
	store, err := config.Open(ctx, storePath(name))
	if err == nil {
		return store, nil // and not a nil *sqlite.Store otherwise
	}
	if !create && errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w, or have it created (--create)", err)
	}
	return nil, err
}

// storePath returns the file that --store names.
func storePath(name string) string { return strings.TrimPrefix(name, "sqlite:") }

// createFlag is the row of the commands that create a store.
func createFlag(group string, create *bool) flagRow {
	return flagRow{group, "create", into(create, true, nil),
		"create the store if there is none, with a warning; --create=false refuses that, so that a mistyped --store is noticed"}
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
		finish: func(_ directory.Import, stored int) (int, error) { return stored, nil },
	})
}
