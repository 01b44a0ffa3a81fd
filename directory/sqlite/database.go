package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
)

// database is one opened file. If the file is replaced by another, the Store opens a new database.
type database struct {
	path     string
	readOnly bool
	reader   *sql.DB
	watcher  *sql.DB // for the state
	writer   *sql.DB // nil if readOnly

	exports *sql.DB // for Export, whose readers stay long

	users *sql.Stmt
	state *sql.Stmt

	// fileEpoch is that of the file when it was opened.
	fileEpoch string
	// edits is what the connection of the writer, or of the watcher if readOnly, saw last.
	edits edits

	// file is the file that was opened, and log and index are those that SQLite keeps beside it;
	// the paths may name other files by now. Guarded by Store.checking.
	file, log, index os.FileInfo
	// logRemoved says that the log was removed because another file has taken the place of this
	// one.
	logRemoved bool

	// The rest is guarded by Store.mu.
	running int  // calls that use the database
	retired bool // close it when running is 0
	// damage is the state of the file when SQLite last reported that a page is corrupt; nil if it has
	// not.
	damage os.FileInfo
	// ownEpoch counts the epochs that this process alone has (edits.go); 0 means that of the file.
	ownEpoch int
	// logHasMore says that the log still has what Compact has dropped.
	logHasMore atomic.Bool
}

// openDatabase opens the file at path, which must be Roster's. Its errors are from describe.
func openDatabase(ctx context.Context, path string) (_ *database, err error) {
	if err := checkLog(ctx, path, true); err != nil {
		return nil, describe(path, err)
	}
	readOnly, err := adopt(ctx, path, false, false)
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
	// Readers and the writer have separate pools, so that a running write never keeps a reader from
	// getting a connection.
	db.reader = open(path, "_query_only=1")
	db.reader.SetMaxOpenConns(max(4, runtime.GOMAXPROCS(0)))
	db.reader.SetMaxIdleConns(max(4, runtime.GOMAXPROCS(0)))
	// So has the state: the health check and the check for changes by other processes must not
	// wait behind look-ups.
	db.watcher = open(path, "_query_only=1")
	db.watcher.SetMaxOpenConns(1)
	db.exports = open(path, "_query_only=1")
	db.exports.SetMaxOpenConns(maxExports)
	db.exports.SetMaxIdleConns(1)
	if readOnly {
		if err := checkUpToDate(ctx, db.watcher); err != nil {
			return nil, err
		}
	} else {
		// A log that has grown is cut when it begins again.
		db.writer = open(path, writing+"&_pragma=journal_size_limit(4194304)")
		db.writer.SetMaxOpenConns(1)
		if err := migrate(ctx, db.writer); err != nil {
			return nil, err
		}
	}
	if db.users, err = db.reader.PrepareContext(ctx, selectUsers); err != nil {
		return nil, err
	}
	if db.state, err = db.watcher.PrepareContext(ctx, selectState); err != nil {
		return nil, err
	}
	if db.fileEpoch, err = readEpoch(ctx, db.watcher); err != nil {
		return nil, err
	}
	// From here on, changes of other programs are noticed.
	if err := db.beginToLook(ctx); err != nil {
		return nil, err
	}
	if db.file, err = os.Stat(path); err != nil {
		return nil, err
	}
	db.recordLog()
	return db, nil
}

// close closes all pools. It waits for running calls.
func (db *database) close() error {
	var errs []error
	for _, pool := range []*sql.DB{db.reader, db.watcher, db.exports, db.writer} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}

// recordLog records which log and index belong to the file.
func (db *database) recordLog() {
	real := followLinks(db.path)
	db.log, _ = os.Stat(real + "-wal")
	db.index, _ = os.Stat(real + "-shm")
}

// removeLog writes the content of the log to the file, wherever that is now, and removes the log
// and its index if they are still in their place. Otherwise SQLite would apply them to the file
// that is opened next at the same path, and mix pages of both files.
func (db *database) removeLog(ctx context.Context) error {
	if db.logRemoved {
		return nil
	}
	if db.writer != nil {
		// If this fails, the file lacks its latest changes, as does any file that is moved without
		// its log.
		_, _ = db.writer.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	}
	for suffix, ours := range map[string]os.FileInfo{"-wal": db.log, "-shm": db.index} {
		path := followLinks(db.path) + suffix
		if info, err := os.Stat(path); ours == nil || err != nil || !os.SameFile(info, ours) {
			continue
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("the log of the previous file could not be removed: %w", err)
		}
	}
	db.logRemoved = true
	return nil
}
