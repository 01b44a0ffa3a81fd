package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"time"
)

// edits notices that another program has changed the file. Such a program does not raise the
// revision, but SQLite keeps a data version for each connection, which changes with every commit that
// is not the connection's own. It is the connection of the writer that is asked, since the changes of
// this process are its own: if its data version has changed and the revision has not, it was somebody
// else. Whoever has that connection may use edits.
type edits struct {
	conn     any // that the versions are of
	version  int64
	revision int64
}

const selectVersions = `SELECT data_version, (SELECT revision FROM directory WHERE one = 1) FROM pragma_data_version`

// look records what a connection sees, and reports whether another program has changed the file since
// the last time.
func (e *edits) look(ctx context.Context, conn *sql.Conn, from querier) (edited bool, err error) {
	now := edits{}
	if err := conn.Raw(func(driverConn any) error { now.conn = driverConn; return nil }); err != nil {
		return false, err
	}
	if err := from.QueryRowContext(ctx, selectVersions).Scan(&now.version, &now.revision); err != nil {
		return false, err
	}
	edited = e.conn == now.conn && e.version != now.version && e.revision == now.revision
	*e = now
	return edited, nil
}

// pool is the one whose connection is asked.
func (db *database) pool() *sql.DB {
	if db.readOnly {
		return db.watcher
	}
	return db.writer
}

// beginToLook looks for the first time.
func (db *database) beginToLook(ctx context.Context) error {
	conn, err := db.pool().Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = db.edits.look(ctx, conn, conn)
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
	if edited, err := db.edits.look(ctx, conn, conn); err != nil || !edited {
		return
	}
	if !db.readOnly && db.raise(ctx, conn) == nil {
		return
	}
	// This process alone sees another revision then.
	s.mu.Lock()
	db.base++
	s.mu.Unlock()
}

// raise raises the revision in the file, unless another process is writing to it.
func (db *database) raise(ctx context.Context, conn *sql.Conn) error {
	if _, err := conn.ExecContext(ctx, "PRAGMA busy_timeout = 0"); err != nil {
		return err
	}
	var revision int64
	err := conn.QueryRowContext(ctx, nextRevision).Scan(&revision)
	if _, failed := conn.ExecContext(ctx, setBusyTimeout); failed != nil {
		// The connection must not go on without it.
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		return failed
	}
	if err == nil {
		db.edits.revision = revision
	}
	return err
}
