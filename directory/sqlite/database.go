package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"runtime"
)

// A database is the file as it was opened once: a Store opens another when another file has taken
// its place.
type database struct {
	path     string
	readOnly bool
	reader   *sql.DB
	watcher  *sql.DB // for the revision
	writer   *sql.DB // nil if readOnly

	users    *sql.Stmt
	revision *sql.Stmt

	// base is what the revisions in the file are raised by, so that they go on from those of the
	// file before.
	base int64

	// file is what was opened, and log and index what SQLite keeps beside it: what a path names may
	// be another by now. Guarded by Store.checking.
	file, log, index os.FileInfo
	// logTaken: the log was taken from it, since another file has its place.
	logTaken bool

	// The rest is guarded by Store.mu.
	running int  // calls that use it
	retired bool // to be closed when none does
	damaged bool // SQLite could not make sense of it
}

// openDatabase opens the file at path, which must be ours or, if that may be, new. Errors are
// described.
func openDatabase(ctx context.Context, path string, mayBeNew bool) (_ *database, err error) {
	readOnly, err := adopt(ctx, path, mayBeNew)
	if err != nil {
		return nil, describe(path, err)
	}
	db := &database{path: path, readOnly: readOnly}
	defer func() {
		if err != nil {
			db.close()
			err = describe(path, err)
		}
	}()
	// Readers and the writer have pools of their own, so that a write under way never keeps a
	// reader from getting a connection.
	db.reader = open(path, "_query_only=1")
	db.reader.SetMaxOpenConns(max(4, runtime.GOMAXPROCS(0)))
	db.reader.SetMaxIdleConns(max(4, runtime.GOMAXPROCS(0)))
	// And the revision has one of its own: the health check and the watch for other processes do
	// not wait behind look-ups.
	db.watcher = open(path, "_query_only=1")
	db.watcher.SetMaxOpenConns(1)
	if !readOnly {
		db.writer = open(path, "_txlock=immediate&_synchronous=FULL")
		db.writer.SetMaxOpenConns(1)
		if err := migrate(ctx, db.writer); err != nil {
			return nil, err
		}
	}
	if db.users, err = db.reader.PrepareContext(ctx, selectUsers); err != nil {
		return nil, err
	}
	if db.revision, err = db.watcher.PrepareContext(ctx, selectRevision); err != nil {
		return nil, err
	}
	if db.file, err = os.Stat(path); err != nil {
		return nil, err
	}
	db.noteLog()
	return db, nil
}

// close waits for running calls.
func (db *database) close() error {
	var errs []error
	for _, pool := range []*sql.DB{db.reader, db.watcher, db.writer} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}

// noteLog remembers which log and index belong to the file.
func (db *database) noteLog() {
	db.log, _ = os.Stat(db.path + "-wal")
	db.index, _ = os.Stat(db.path + "-shm")
}

// takeLog puts what the log has into the file, wherever that is now, and takes away the log and its
// index if they are still in their place. Whatever is opened there next would take them for its
// own, and have pages of this file mixed into it.
func (db *database) takeLog(ctx context.Context) error {
	if db.logTaken {
		return nil
	}
	if db.writer != nil {
		// If it cannot be done, the file lacks its latest changes, as it does after any move
		// without its log.
		_, _ = db.writer.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	}
	for suffix, ours := range map[string]os.FileInfo{"-wal": db.log, "-shm": db.index} {
		path := db.path + suffix
		if info, err := os.Stat(path); ours == nil || err != nil || !os.SameFile(info, ours) {
			continue
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("what belongs to the file before is in the way: %w", err)
		}
	}
	db.logTaken = true
	return nil
}
