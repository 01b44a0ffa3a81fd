package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"

	"example.com/roster/directory"
)

const (
	// compactRows is how many changes one step of Compact deletes, and mendRows how many users it looks at.
	// A step holds writers up for some milliseconds.
	compactRows = 500
	mendRows    = 4000
)

// Compact implements directory.Store. Each step is a transaction of its own, after which other writers have
// their turn. Oldest rises in the step in which the first change of a revision goes, so nobody reads half of
// one.
func (s *Store) Compact(ctx context.Context) error {
	db, err := s.use()
	if err != nil {
		return err
	}
	defer s.done(db)
	if db.readOnly {
		return nil // a process that may write does it
	}
	for {
		needed, err := s.mustCompact(ctx, db)
		if err != nil {
			return s.failed(db, err)
		}
		if !needed {
			break
		}
		if err := s.compactStep(ctx); err != nil {
			return err
		}
		db.logHasMore.Store(true)
	}
	if !db.logHasMore.Load() {
		return nil
	}
	emptied, err := db.emptyLog(ctx)
	if emptied {
		db.logHasMore.Store(false)
	}
	return s.failed(db, err)
}

// mustCompact reports whether there is anything to drop or to mend.
func (s *Store) mustCompact(ctx context.Context, db *database) (needed bool, err error) {
	tx, err := db.reader.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	var oldest int64
	err = tx.QueryRowContext(ctx, `SELECT oldest, unkeyed IS NOT NULL OR EXISTS (SELECT 1 FROM changes WHERE revision <= oldest)
		OR EXISTS (SELECT 1 FROM revisions WHERE revision < oldest) FROM directory WHERE one = 1`).Scan(&oldest, &needed)
	if err != nil || needed {
		return needed, err
	}
	target, err := s.nextOldest(ctx, tx, oldest)
	return target > oldest, err
}

// nextOldest returns up to which revision the changes are to go, of the next compactRows revisions.
func (s *Store) nextOldest(ctx context.Context, tx *sql.Tx, oldest int64) (int64, error) {
	tooOld := time.Now().Add(-s.history.Age).UnixMicro()
	var target int64
	err := tx.QueryRowContext(ctx, `WITH newest AS (SELECT revision, total FROM revisions ORDER BY revision DESC LIMIT 1),
		next AS (SELECT * FROM revisions WHERE revision > ?1 ORDER BY revision LIMIT ?2)
		SELECT coalesce(max(next.revision), ?1) FROM next, newest
		WHERE next.time < ?3 OR next.total <= newest.total - ?4 AND next.revision < newest.revision`,
		oldest, compactRows, tooOld, s.history.Changes).Scan(&target)
	return target, err
}

func (s *Store) compactStep(ctx context.Context) error {
	t, err := s.begin(ctx, "")
	if err != nil {
		return err
	}
	defer t.rollback()
	if err := t.compact(ctx); err != nil {
		return s.failed(t.db, err)
	}
	var mark string
	if err := t.tx.QueryRowContext(ctx, markChange+" RETURNING mark").Scan(&mark); err != nil {
		return s.failed(t.db, err)
	}
	return t.commitMarked(mark)
}

func (t *transaction) compact(ctx context.Context) error {
	oldest, err := t.store.nextOldest(ctx, t.tx, t.before.Oldest)
	if err != nil {
		return err
	}
	for _, step := range []struct {
		statement string
		arguments []any
	}{
		{"UPDATE directory SET oldest = ? WHERE one = 1", []any{oldest}},
		{`DELETE FROM changes WHERE (revision, id) IN
			(SELECT revision, id FROM changes WHERE revision <= ? ORDER BY revision, id LIMIT ?)`, []any{oldest, compactRows}},
		{`DELETE FROM revisions WHERE revision IN
			(SELECT revision FROM revisions WHERE revision < ? ORDER BY revision LIMIT ?)`, []any{oldest, compactRows}},
	} {
		if _, err := t.tx.ExecContext(ctx, step.statement, step.arguments...); err != nil {
			return err
		}
	}
	return t.mendKeys(ctx)
}

// mendKeys gives some users the keys of what another program has written.
func (t *transaction) mendKeys(ctx context.Context) error {
	var from sql.NullInt64
	if err := t.tx.QueryRowContext(ctx, "SELECT unkeyed FROM directory WHERE one = 1").Scan(&from); err != nil || !from.Valid {
		return err
	}
	var last sql.NullInt64
	err := t.tx.QueryRowContext(ctx, "SELECT id FROM users WHERE id >= ? ORDER BY id LIMIT 1 OFFSET ?", from.Int64, mendRows-1).Scan(&last)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	_, err = t.tx.ExecContext(ctx, `UPDATE users SET name_key = roster_fold_key(name), email_key = roster_fold_key(email)
		WHERE id >= ?1 AND (?2 IS NULL OR id <= ?2) AND (name_key <> roster_fold_key(name) OR email_key <> roster_fold_key(email))`, from.Int64, last)
	if err != nil {
		return err
	}
	_, err = t.tx.ExecContext(ctx, `UPDATE directory SET unkeyed = ?1 + 1,
		highest_id = max(highest_id, coalesce((SELECT max(id) FROM users WHERE id <= ?2), 0)) WHERE one = 1`, last, highestID)
	return err
}

// emptyLog takes the log up into the file and empties it: it still has the pages as they were. It waits for
// nobody, and reports whether it could.
func (db *database) emptyLog(ctx context.Context) (emptied bool, err error) {
	conn, err := db.writer.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	defer restoreBusyTimeout(ctx, conn)
	err = db.recordPending(ctx, conn)
	if err == nil {
		// raise has set it to what it was.
		_, err = conn.ExecContext(ctx, "PRAGMA busy_timeout = 0")
	}
	var busy, pages, taken int
	if err == nil {
		err = conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &taken)
	}
	if err != nil {
		if errors.Is(describe(db.path, err), directory.ErrUnavailable) {
			return false, ctx.Err()
		}
		return false, err
	}
	return busy == 0, nil
}

// restoreBusyTimeout lets a connection wait for others again.
func restoreBusyTimeout(ctx context.Context, conn *sql.Conn) {
	if _, err := conn.ExecContext(context.WithoutCancel(ctx), setBusyTimeout); err != nil {
		// The connection must not go on without it.
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
}
