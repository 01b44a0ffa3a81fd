package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"example.com/roster/directory"
)

// primaryCode returns the primary SQLite result code of err, 0 if err is not from SQLite.
func primaryCode(err error) int {
	if e := (*sqlite.Error)(nil); errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

func isReadOnly(err error) bool { return primaryCode(err) == sqlite3.SQLITE_READONLY }

// isDamaged reports whether err says that the file's content is corrupt.
func isDamaged(err error) bool {
	code := primaryCode(err)
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
}

// describe returns an error that says in words what is wrong with the store at path. It wraps an
// error of package directory where the caller can act on it.
func describe(path string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	switch primaryCode(err) {
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("store %s is not a SQLite database (nor empty): give another file name: %w", path, err)
	case sqlite3.SQLITE_READONLY:
		return fmt.Errorf("%w: %s and its directory must be writable by this user: %w", directory.ErrReadOnly, path, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%w: another program has locked %s for longer than %v: %w",
			directory.ErrUnavailable, path, busyTimeout, err)
	case sqlite3.SQLITE_CANTOPEN:
		if limit, out := outOfFiles(); out {
			return fmt.Errorf("%w: %s cannot be opened: too many files are open (the limit of this process is %d): "+
				"raise it (ulimit -n, or LimitNOFILE of systemd): %w", directory.ErrUnavailable, path, limit, err)
		}
		return fmt.Errorf("%w: %s cannot be opened: it and its directory must be readable and writable by this user: %w",
			directory.ErrUnavailable, path, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w: no space is left for %s: %w", directory.ErrUnavailable, directory.ErrFull, path, err)
	case sqlite3.SQLITE_IOERR:
		return fmt.Errorf("%w: reading or writing %s failed: %w", directory.ErrUnavailable, path, err)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("store %s is damaged: restore it from a backup: %w", path, err)
	case sqlite3.SQLITE_INTERRUPT:
		return fmt.Errorf("%w: %w", context.Canceled, err)
	}
	if errors.Is(err, sql.ErrConnDone) {
		return fmt.Errorf("%w: %s is closed", directory.ErrUnavailable, path)
	}
	return fmt.Errorf("store %s: %w", path, err)
}
