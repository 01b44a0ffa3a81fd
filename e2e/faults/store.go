package faults

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // reads the store as another program would
)

// A state is what is in the store, as a reader finds it that is not Roster.
type state struct {
	revision int64
	changes  int
	users    int
	closed   bool  // by the last process that had it open
	alone    int64 // the revision of the file alone, without its log; -1 if it cannot be read so
}

// state reads the store, which servers have open.
func (r *run) state(ctx context.Context) (state, error) { return read(ctx, r.store, "mode=ro") }

// left reads what a process left that was killed: a copy, so that the next process finds the store as it
// was left.
func (r *run) left(ctx context.Context) (state, error) {
	folder, err := os.MkdirTemp(r.folder, "left")
	if err != nil {
		return state{}, err
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "alone.db")
	if err := copyFile(r.store, file); err != nil {
		return state{}, err
	}
	alone, err := read(ctx, file, "immutable=1")
	if err != nil {
		alone.revision = -1 // it was killed while it moved the log into the file
	}
	file = filepath.Join(folder, "whole.db")
	if err := errors.Join(copyFile(r.store, file), copyFile(r.store+"-wal", file+"-wal")); err != nil {
		return state{}, err
	}
	s, err := read(ctx, file, "mode=rw")
	s.alone = alone.revision
	return s, err
}

func read(ctx context.Context, path, parameters string) (s state, err error) {
	uri := url.URL{Scheme: "file", Path: path, RawQuery: parameters + "&_busy_timeout=10000"}
	db, err := sql.Open("sqlite", uri.String())
	if err != nil {
		return s, err
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, `SELECT revision, closed, (SELECT count(*) FROM changes), (SELECT count(*) FROM users)
		FROM directory`).Scan(&s.revision, &s.closed, &s.changes, &s.users)
	if err != nil {
		err = fmt.Errorf("the store cannot be read: %w", err)
	}
	return s, err
}

// names returns the names that the history in the store has, but for those of an import.
func (r *run) names(ctx context.Context) ([]string, error) {
	return query[string](ctx, r.store, "SELECT name FROM changes WHERE revision > 1 AND id < ?", users)
}

// revisions returns the revisions that the store has, with the number of their changes: none if an import
// left all as they were.
func (r *run) revisions(ctx context.Context) (map[int64]int, error) {
	all, err := query[int64](ctx, r.store, "SELECT revision FROM revisions")
	if err != nil {
		return nil, err
	}
	changes, err := query[int64](ctx, r.store, "SELECT revision FROM changes")
	counts := make(map[int64]int)
	for _, revision := range all {
		counts[revision] = 0
	}
	for _, revision := range changes {
		counts[revision]++
	}
	return counts, err
}

// query returns the one column of what a statement finds.
func query[T any](ctx context.Context, path, statement string, arguments ...any) (values []T, err error) {
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: "mode=ro&_busy_timeout=10000"}).String())
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, statement, arguments...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var value T
		if err := rows.Scan(&value); err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, rows.Err()
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o600)
}
