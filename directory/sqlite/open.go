// Package sqlite keeps the directory in one SQLite file.
//
// Several processes may have the file open at the same time. Only one writes at a time, and readers
// do not wait for it (write-ahead log). When a method returns without an error, its change is on
// disk. Open refuses the database of another program, so that no table is added to it.
//
// If the file is moved away while it is open, the next State notices it. Until the file, or
// another store, is at the path again, every method fails with directory.ErrUnavailable. If another
// program changes the file, the next State notices that, too, and raises the revision.
//
// Backup copies a store while it is used, Restore puts a copy in the place of a store, and Check
// looks for damage. An orderly way to move a store is to close it, and move its one file.
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
	// writing are the parameters of a connection that writes. What is deleted is overwritten with
	// zeros: names and addresses must not stay in pages that nobody uses.
	writing = "_txlock=immediate&_synchronous=" + synchronous + "&_pragma=secure_delete(1)"
)

// Config configures Open. The zero value means the defaults.
type Config struct {
	// MustExist refuses to create a store where there is none: fs.ErrNotExist.
	MustExist bool
	// Created, if set, is called when a store has been created.
	Created func()
	// Warn gets a sentence for what is suspicious about the store, when it is opened or later: its log
	// is missing. Nil drops it.
	Warn func(string)
	// History is how much of the past is kept for Changes.
	History History
	// ExportTime is the longest that an export reads one state, since the log cannot begin again meanwhile: 30 s
	// by default.
	ExportTime time.Duration
}

// History says which changes are kept. The zero value of a field means its default.
type History struct {
	// Age is how long a change is kept: 7 days by default.
	Age time.Duration
	// Changes is how many of those are kept: 1,000,000 by default, and more if they are of one revision, which is
	// kept as a whole.
	Changes int64
}

// Open is Config.Open with the defaults.
func Open(ctx context.Context, path string) (*Store, error) { return Config{}.Open(ctx, path) }

// Open opens the file at path, which it creates if there is none, readable and writable by this user
// alone, and brings its schema up to date. Its errors name the path and say what is wrong with it.
// The file of another program is left as it was.
func (c Config) Open(ctx context.Context, path string) (*Store, error) {
	if c.Warn == nil {
		c.Warn = func(string) {}
	}
	if c.History.Age == 0 {
		c.History.Age = defaultAge
	}
	if c.History.Changes == 0 {
		c.History.Changes = defaultChanges
	}
	if c.ExportTime <= 0 {
		c.ExportTime = exportTime
	}
	if c.History.Age < 0 || c.History.Changes < 0 {
		return nil, fmt.Errorf("a history of %v and %d changes cannot be kept: give numbers that are not negative", c.History.Age, c.History.Changes)
	}
	if err := checkPath(path); err != nil {
		return nil, err
	}
	lock, err := takeLock(path, true)
	alone := err == nil
	if errors.Is(err, errInUse) {
		lock, err = lockShared(ctx, path)
	}
	if err != nil {
		return nil, err
	}
	if alone {
		if err := c.prepare(ctx, path); err != nil {
			lock.release()
			return nil, describe(path, err)
		}
		if lock, err = lock.share(ctx, path); err != nil {
			return nil, err
		}
	}
	db, err := openDatabase(ctx, path)
	if err != nil {
		lock.release()
		return nil, err
	}
	return &Store{path: path, lock: lock, warn: c.Warn, history: c.History, exportTime: c.ExportTime, db: db}, nil
}

// prepare makes the file at path ready to be opened, while no other process has it open: it creates
// a new one, brings an old one up to date, and begins a new log.
func (c Config) prepare(ctx context.Context, path string) error {
	info, err := os.Stat(path)
	missing := errors.Is(err, fs.ErrNotExist)
	isNew := missing || err == nil && info.Size() == 0
	if isNew && c.MustExist {
		return errNoStore
	}
	logMissing := false
	if _, err := os.Stat(followLinks(path) + "-wal"); errors.Is(err, fs.ErrNotExist) {
		logMissing = true
	}
	if err := checkLog(ctx, path, false); err != nil {
		return err
	}
	if missing {
		// SQLite gives its other files the mode of this one.
		file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
		if c.Created != nil {
			c.Created()
		}
	}
	readOnly, err := adopt(ctx, path, true, logMissing)
	if err != nil || readOnly {
		return err
	}
	if !isNew && logMissing {
		if err := checkComplete(ctx, path, c.Warn); err != nil {
			return err
		}
	}
	db := open(path, writing)
	defer db.Close()
	db.SetMaxOpenConns(1)
	if err := migrate(ctx, db); err != nil {
		return err
	}
	// The log that begins now belongs to this file, and to no copy of it from before (log.go).
	if _, err := db.ExecContext(ctx, markChange); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

// checkComplete looks for the signs that a file was copied while it was open, without its log: it
// says that it is open, and there is no log. It fails if such a file has no users, and else warns.
func checkComplete(ctx context.Context, path string, warn func(string)) error {
	db := open(path, "_query_only=1")
	defer db.Close()
	db.SetMaxOpenConns(1)
	var closed, hasUsers bool
	err := db.QueryRowContext(ctx, "SELECT closed, EXISTS (SELECT 1 FROM users) FROM directory WHERE one = 1").Scan(&closed, &hasUsers)
	switch {
	case err != nil || closed:
		return nil // a damaged page fails the calls that need it; an old schema says nothing
	case !hasUsers:
		return errIncomplete
	}
	warn("the store " + path + " was not closed, and its log (" + path + "-wal) is missing: if the file was copied while it was served, " +
		"or the log was deleted, the latest changes are missing; roster backup makes complete copies")
	return nil
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
	// SQLite never creates the file: prepare does.
	uri.RawQuery = fmt.Sprintf("mode=rw&_busy_timeout=%d&_error_rc=1&%s", busyTimeout.Milliseconds(), parameters)
	db, err := sql.Open("sqlite", uri.String())
	if err != nil {
		panic(err) // only if the driver's name is wrong, which is a bug of this package
	}
	return db
}

// adopt verifies that the file is Roster's and not of a newer version. If mayBeNew is set, a new,
// empty file is marked as Roster's. logMissing says that there was no log when nothing had opened the
// file yet. adopt also reports whether the file is read-only.
func adopt(ctx context.Context, path string, mayBeNew, logMissing bool) (readOnly bool, err error) {
	db := open(path, "_txlock=immediate")
	defer db.Close()
	db.SetMaxOpenConns(1)
	ours, err := isOurs(ctx, db)
	if err != nil {
		return false, err
	}
	if ours {
		if err := checkSchema(ctx, db, mayBeNew, logMissing); err != nil {
			return false, err
		}
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

// A querier is a pool, a connection or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// isOurs reports whether a database has Roster's mark. A database with neither a mark nor tables is
// new: false and no error. Any other belongs to another program: errForeign.
func isOurs(ctx context.Context, db querier) (bool, error) {
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

// errNoStore says that there is no store where one must be.
var errNoStore = fmt.Errorf("there is no such store (%w): correct its name", fs.ErrNotExist)

var errIncomplete = errors.New("this is an incomplete copy, which has no users: the file was copied while it was served, " +
	"and its users were still in the log beside it. Delete it, and make a copy with roster backup")

// schemaVersion is the number of the newest migration.
const schemaVersion = 3

// checkSchema refuses a file whose schema is from a newer version of Roster, and one that lacks it.
func checkSchema(ctx context.Context, db *sql.DB, mayBeNew, logMissing bool) error {
	var version, migrated, tables int
	var mode string
	err := db.QueryRowContext(ctx, `SELECT user_version, (SELECT count(*) FROM sqlite_schema), journal_mode
		FROM pragma_user_version, pragma_journal_mode`).Scan(&version, &tables, &mode)
	if err != nil {
		return err
	}
	// Without the table, this fails, and the version is 0.
	_ = db.QueryRowContext(ctx, "SELECT max(version_id) FROM goose_db_version WHERE is_applied").Scan(&migrated)
	if newest := max(version, migrated); newest > schemaVersion {
		return fmt.Errorf("its schema is version %d, and this version of Roster knows versions up to %d: "+
			"run the newer version of Roster that wrote it, or restore a backup from before", newest, schemaVersion)
	}
	if tables > 0 {
		return nil
	}
	// A new file gets its tables before its log. Versions that had them in the log had one.
	if !mayBeNew || mode == "wal" && logMissing {
		return errIncomplete
	}
	return nil
}

// checkUpToDate refuses a file that only a process which may write could bring up to date.
func checkUpToDate(ctx context.Context, db querier) error {
	var version int
	if err := db.QueryRowContext(ctx, "SELECT user_version FROM pragma_user_version").Scan(&version); err != nil {
		return err
	}
	if version < schemaVersion {
		return fmt.Errorf("%w, and its schema is version %d, which this version of Roster has to bring up to date: "+
			"let a user who may write to it and to its directory open it once", directory.ErrReadOnly, version)
	}
	return nil
}

var errForeign = errors.New("this is another program's database: give Roster a file of its own")

// migrate brings the schema up to date. If several processes do so at the same time, one succeeds;
// the others fail on a table that exists already, and try again.
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	var version int
	var mode string
	err = db.QueryRowContext(ctx, "SELECT user_version, journal_mode FROM pragma_user_version, pragma_journal_mode").Scan(&version, &mode)
	if err == nil && version == schemaVersion && mode == "wal" {
		return nil
	}
	deadline := time.Now().Add(busyTimeout)
	for {
		provider, err := goose.NewProvider(goose.DialectSQLite3, db, files)
		if err != nil {
			return err
		}
		_, err = provider.Up(ctx)
		if err == nil {
			// After the migrations, so that the file itself has the tables, also without its log. The
			// mode is stored in the file, but a copy or a crash may have lost it.
			_, err = db.ExecContext(ctx, "PRAGMA journal_mode = WAL")
		}
		if err == nil || isReadOnly(err) || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

var _ directory.Store = (*Store)(nil)
