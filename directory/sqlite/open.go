// Package sqlite keeps the directory in one SQLite file.
//
// Several processes may have the file open at the same time. Only one writes at a time, and readers
// do not wait for it (write-ahead log). When a method returns without an error, its change is on
// disk. Open refuses the database of another program, so that no table is added to it.
//
// If the file is moved away while it is open, the next Revision notices it. Until the file, or
// another store, is at the path again, every method fails with directory.ErrUnavailable.
//
//	store, err := sqlite.Open(ctx, "roster.db")
//	if err != nil {
//		return err
//	}
//	defer store.Close()
//	users, err := store.Get(ctx, []int32{1, 2})
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"

	"example.com/roster/directory"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// busyTimeout is how long a write waits for another one before it fails with
	// directory.ErrUnavailable.
	busyTimeout = 5 * time.Second
	// applicationID marks the file as Roster's ("Rost"; PRAGMA application_id).
	applicationID = 0x526f7374
)

// Open opens the file at path, which it creates if there is none, and brings its schema up to date.
// Its errors name the path and say what is wrong with it. The file of another program is left as it
// was.
func Open(ctx context.Context, path string) (*Store, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	db, err := openDatabase(ctx, path, true)
	if err != nil {
		return nil, err
	}
	return &Store{path: path, db: db}, nil
}

// checkPath describes faults for which SQLite would only say "unable to open".
func checkPath(path string) error {
	if path == "" {
		return errors.New("the store's path is empty: give a file name such as roster.db")
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("store %s is a directory: give the name of a file in it, such as %s",
			path, filepath.Join(path, "roster.db"))
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("store %s is not a regular file", path)
	case err == nil || !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(path)
	if info, err := os.Stat(parent); err != nil || !info.IsDir() {
		return fmt.Errorf("store %s: there is no directory %s: create it first", path, parent)
	}
	return nil
}

// open makes a pool of connections. It opens none yet.
func open(path, parameters string) *sql.DB {
	// The path is given as an absolute URI, so that SQLite does not take a part of it for a
	// parameter, or the whole for a special name such as :memory:.
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	uri := url.URL{Scheme: "file", Path: path}
	uri.RawQuery = fmt.Sprintf("_busy_timeout=%d&_error_rc=1&%s", busyTimeout.Milliseconds(), parameters)
	db, err := sql.Open("sqlite", uri.String())
	if err != nil {
		panic(err) // only if the driver's name is wrong, which is a bug of this package
	}
	return db
}

// adopt verifies that the file is Roster's. If mayBeNew is set, a new, empty file is marked as
// Roster's. adopt also reports whether the file is read-only.
func adopt(ctx context.Context, path string, mayBeNew bool) (readOnly bool, err error) {
	db := open(path, "_txlock=immediate")
	defer db.Close()
	db.SetMaxOpenConns(1)
	ours, err := isOurs(ctx, db)
	if err != nil {
		return false, err
	}
	if ours {
		// Only a statement that writes shows whether this process may write. If the statement fails
		// because another writer has the lock, it may.
		if _, err := db.ExecContext(ctx, "PRAGMA busy_timeout = 0"); err != nil {
			return false, err
		}
		_, err := db.ExecContext(ctx, "UPDATE directory SET revision = revision WHERE one = 0")
		return isReadOnly(err), nil
	}
	if !mayBeNew {
		return false, errEmpty
	}
	// The file is new. If two processes arrive here at the same time, the second finds the mark of
	// the first.
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	if ours, err = isOurs(ctx, tx); err != nil || ours {
		return false, err
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
		return false, err
	}
	return false, tx.Commit()
}

// isOurs reports whether a database has Roster's mark. A database with neither a mark nor tables is
// new: false and no error. Any other belongs to another program: errForeign.
func isOurs(ctx context.Context, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}) (bool, error) {
	var id, tables int64
	err := db.QueryRowContext(ctx, "SELECT application_id, (SELECT count(*) FROM sqlite_schema) FROM pragma_application_id").Scan(&id, &tables)
	switch {
	case err != nil:
		return false, err
	case id == applicationID:
		return true, nil
	case id != 0 || tables > 0:
		return false, errForeign
	}
	return false, nil
}

var errEmpty = errors.New("this is an empty file")

var errForeign = errors.New("this is another program's database: give Roster a file of its own")

// migrate brings the schema up to date. If several processes do so at the same time, one succeeds;
// the others fail on a table that exists already, and try again.
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	deadline := time.Now().Add(busyTimeout)
	for {
		// The mode is stored in the file, but a copy or a crash may have lost it.
		if _, err := db.ExecContext(ctx, "PRAGMA journal_mode = WAL"); err != nil {
			return err
		}
		provider, err := goose.NewProvider(goose.DialectSQLite3, db, files)
		if err != nil {
			return err
		}
		_, err = provider.Up(ctx)
		if err == nil || isReadOnly(err) || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

var _ directory.Store = (*Store)(nil)
