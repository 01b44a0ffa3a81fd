package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// edits notices that another program has changed the file. Such a program does not record what it
// changes, but SQLite keeps a data version for each connection, which changes with every commit that
// is not the connection's own. It is the connection of the writer that is asked, since the changes of
// this process are its own: if its data version has changed and the mark of the last change has not, it
// was somebody else than Roster, unless the log says otherwise: the data version also changes when the log
// begins anew (after an import, before the first commit to a new log, or when that was never made since the
// process was killed) and when the connection itself fails to write. Then the log is empty, or its last
// commit is Roster's. Whoever has that connection may use edits.
type edits struct {
	conn    any // that the versions are of
	version int64
	mark    string
	// pending says that a change was noticed and could not be made a revision yet.
	pending bool
}

const (
	selectVersions = `SELECT data_version, (SELECT mark FROM directory WHERE one = 1) FROM pragma_data_version`

	// raiseRevision makes an edit a revision of which nobody knows the changes. What another program
	// wrote may have wrong keys: Compact mends them. It sets no mark: a transaction sets one, once.
	raiseRevision = `UPDATE directory SET revision = revision + 1, recorded = revision + 1, oldest = revision + 1,
		unkeyed = -2147483648 WHERE one = 1`
	// keyNew gives keys to users that another program has added, which have none: so their emails are taken at
	// once. Beyond some thousands, which would hold everybody up, Compact does it.
	keyNew = `UPDATE users SET name_key = roster_fold_key(name), email_key = roster_fold_key(email)
		WHERE id IN (SELECT id FROM users WHERE name_key = '' AND name <> '' LIMIT 4000)`
	hasNew     = `SELECT EXISTS (SELECT 1 FROM users WHERE name_key = '' AND name <> '')`
	recordEdit = `INSERT INTO revisions SELECT d.revision, max(?, coalesce(r.time, 0)), '', coalesce(r.total, 0)
		FROM directory AS d LEFT JOIN revisions AS r ON r.revision = d.revision - 1 WHERE d.one = 1`
)

// look records what a connection sees, and reports whether another program has changed the file since
// the last time.
func (e *edits) look(ctx context.Context, path string, conn *sql.Conn, from querier) (edited bool, err error) {
	now := edits{pending: e.pending}
	if err := conn.Raw(func(driverConn any) error { now.conn = driverConn; return nil }); err != nil {
		return false, err
	}
	if err := from.QueryRowContext(ctx, selectVersions).Scan(&now.version, &now.mark); err != nil {
		return false, err
	}
	if e.conn == now.conn && e.version != now.version && e.mark == now.mark {
		log, err := committed(path)
		if err != nil {
			return false, err
		}
		edited = log != nil && log.edited
	}
	*e = now
	return edited, nil
}

// committed returns what is committed in the log of the file at path, nil if nothing is.
func committed(path string) (*logged, error) {
	log, err := readLog(followLinks(path) + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return log, err
}

// pool is the one whose connection is asked.
func (db *database) pool() *sql.DB {
	if db.readOnly {
		return db.watcher
	}
	return db.writer
}

// beginToLook looks for the first time. If the last change in the log is another program's, no process may
// have noticed it, and none may be able to once this one empties the log.
func (db *database) beginToLook(ctx context.Context) error {
	conn, err := db.pool().Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := db.edits.look(ctx, db.path, conn, conn); err != nil || db.readOnly {
		return err
	}
	log, err := committed(db.path)
	if err != nil {
		return err
	}
	// Users that were added while no process had the file open show by their keys.
	var added bool
	err = conn.QueryRowContext(ctx, hasNew).Scan(&added)
	db.edits.pending = added || log != nil && log.edited
	return err
}

// noticeEdits raises the revision if another program has changed the file. It does not wait for a
// change of this process: while that holds its lock nobody else can write, and it looked when it
// began.
func (s *Store) noticeEdits(ctx context.Context, db *database) {
	pool := db.pool()
	if pool.Stats().InUse > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	conn, err := pool.Conn(ctx)
	if err != nil {
		return
	}
	defer conn.Close()
	edited, err := db.edits.look(ctx, db.path, conn, conn)
	if err != nil || !edited && !db.edits.pending {
		return
	}
	if !db.readOnly && db.raise(ctx, conn) == nil {
		db.edits.pending = false
		s.endOwnEpoch(db)
		return
	}
	// This process alone sees another epoch: for good if it may not write, else until it can.
	db.edits.pending = !db.readOnly
	if edited {
		s.beginOwnEpoch(db)
	}
}

// raise raises the revision in the file, unless another process is writing to it.
func (db *database) raise(ctx context.Context, conn *sql.Conn) (err error) {
	if _, err := conn.ExecContext(ctx, "PRAGMA busy_timeout = 0"); err != nil {
		return err
	}
	defer restoreBusyTimeout(ctx, conn)
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := recordEdits(ctx, tx); err != nil {
		return err
	}
	var mark string
	if err := tx.QueryRowContext(ctx, markChange+" RETURNING mark").Scan(&mark); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	db.edits.mark = mark
	return nil
}

// recordPending makes a revision of what was noticed and is not one yet. Who empties the log calls it before:
// nobody else notices a change that the log no longer has.
func (db *database) recordPending(ctx context.Context, conn *sql.Conn) error {
	edited, err := db.edits.look(ctx, db.path, conn, conn)
	if err != nil {
		return err
	}
	db.edits.pending = db.edits.pending || edited
	if !db.edits.pending {
		return nil
	}
	if err := db.raise(ctx, conn); err != nil {
		return err
	}
	db.edits.pending = false
	return nil
}

// recordEdits makes the changes of another program a revision.
func recordEdits(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, raiseRevision); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, recordEdit, time.Now().UnixMicro()); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, keyNew)
	return err
}

// beginOwnEpoch gives this process alone another epoch: the data were changed, and it cannot say so in the
// file.
func (s *Store) beginOwnEpoch(db *database) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ownEpochs++
	db.ownEpoch = s.ownEpochs
}

// endOwnEpoch goes back to the epoch of the file, which tells of the change now.
func (s *Store) endOwnEpoch(db *database) {
	s.mu.Lock()
	defer s.mu.Unlock()
	db.ownEpoch = 0
}

// epoch returns the epoch that this process has for that of the file.
func (s *Store) epoch(db *database, inFile string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if db.ownEpoch == 0 {
		return inFile
	}
	return fmt.Sprintf("%s.%d", inFile, db.ownEpoch)
}
