package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"example.com/roster/directory"
)

// transaction is one change under way: it holds the write lock, and has taken the next revision.
type transaction struct {
	store *Store
	db    *database
	conn  *sql.Conn // the only connection of the writer, held until the end; nil after it
	keep  bool      // whoever ends the transaction releases the connection and the database
	tx    *sql.Tx
	// before is where the history was, and edits what was known of other programs; both for a rollback.
	before directory.State
	edits  edits
	// revision and micros are those of the change, actor who makes it.
	revision, micros int64
	actor            string
	// total is the number of changes before this one, changes that of this one.
	total, changes int64
	// highest is the highest id that was ever used before this change.
	highest int64
	// one and many are the statements of put, for 1 and for batchRows users.
	one, many statements
	arguments []any
}

// begin takes the write lock and the next revision.
func (s *Store) begin(ctx context.Context, actor string) (*transaction, error) {
	s.checkFile(ctx) // a write to a file that was moved away would be lost
	db, err := s.use()
	if err != nil {
		return nil, err
	}
	t, err := s.beginOn(ctx, db)
	if err != nil {
		s.done(db)
		return nil, err
	}
	t.actor = actor
	return t, nil
}

func (s *Store) beginOn(ctx context.Context, db *database) (*transaction, error) {
	if db.readOnly {
		return nil, fmt.Errorf("%w: %s and its directory must be writable by this user", directory.ErrReadOnly, s.path)
	}
	waiting, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	conn, err := db.writer.Conn(waiting)
	if err != nil {
		if waiting.Err() != nil && ctx.Err() == nil {
			return nil, fmt.Errorf("%w: another write to %s took longer than %v",
				directory.ErrUnavailable, s.path, busyTimeout)
		}
		return nil, s.failed(db, err)
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		conn.Close()
		return nil, s.failed(db, err)
	}
	t := &transaction{store: s, db: db, conn: conn, tx: tx, edits: db.edits}
	if err := t.takeRevision(ctx); err != nil {
		tx.Rollback()
		db.edits = t.edits
		conn.Close()
		return nil, s.failed(db, err)
	}
	return t, nil
}

// takeRevision takes the next revision. If another program has changed the file, that is a revision of its
// own before.
func (t *transaction) takeRevision(ctx context.Context) error {
	edited, err := t.db.edits.look(ctx, t.db.path, t.conn, t.tx)
	if err != nil {
		return err
	}
	t.db.edits.pending = t.db.edits.pending || edited
	t.edits = t.db.edits // if the change is dropped, what it noticed is still to be recorded
	if t.edits.pending {
		if err := recordEdits(ctx, t.tx); err != nil {
			return err
		}
		t.db.edits.pending = false
	}
	var last int64
	// Another program may have given an id that is above all that Roster has given.
	err = t.tx.QueryRowContext(ctx, `SELECT d.epoch, d.revision, d.oldest, max(d.highest_id, `+highestPresent+`), coalesce(r.time, 0), coalesce(r.total, 0)
		FROM directory AS d LEFT JOIN revisions AS r ON r.revision = d.revision WHERE d.one = 1`, highestID).
		Scan(&t.before.Epoch, &t.before.Revision, &t.before.Oldest, &t.highest, &last, &t.total)
	// Times never fall, whatever the clock does.
	t.revision, t.micros = t.before.Revision+1, max(time.Now().UnixMicro(), last)
	return err
}

// highestPresent is the highest id that somebody has, of those that are not above the first parameter.
const highestPresent = `coalesce((SELECT max(id) FROM users WHERE id <= ?1), 0)`

// record returns a user as this change leaves it.
func (t *transaction) record(u directory.User, created time.Time) directory.Record {
	return directory.Record{User: u, Created: created, Updated: moment(t.micros), Revision: t.revision}
}

// state is where the history is after the change.
func (t *transaction) state() directory.State {
	return directory.State{Epoch: t.before.Epoch, Revision: t.revision, Oldest: t.before.Oldest}
}

// batchRows is how many rows one statement writes. SQLite keeps the pages that a statement changes as they were,
// in memory up to 64 KiB and then in a file, and each user is on two pages anywhere in the indexes.
const batchRows = 6

// A draft is a user to be written, who is created or, with before, changed.
type draft struct {
	user   directory.User
	before *directory.Record
}

// statements write users and their changes.
type statements struct{ users, changes *sql.Stmt }

// prepare makes the statements for n users. The parts that are equal for all are in the text, and the
// parameters are not numbered, because the driver looks up each numbered parameter by its name among all
// the others.
func (t *transaction) prepare(ctx context.Context, n int) (s statements, err error) {
	rows := func(row string) string { return strings.TrimSuffix(strings.Repeat(row+",", n), ",") }
	s.users, err = t.tx.PrepareContext(ctx, `INSERT INTO users (revision, created, updated, id, name, age, email, name_key, email_key) VALUES `+
		rows(fmt.Sprintf("(%d,%d,%d,?,?,?,?,?,?)", t.revision, t.micros, t.micros))+`
		ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, updated = excluded.updated, name = excluded.name,
		age = excluded.age, email = excluded.email, name_key = excluded.name_key, email_key = excluded.email_key`)
	if err != nil {
		return s, err
	}
	s.changes, err = t.tx.PrepareContext(ctx, `INSERT INTO changes (revision, id, kind, name, age, email, created, name_before, email_before) VALUES `+
		rows(fmt.Sprintf("(%d,?,?,?,?,?,?,?,?)", t.revision)))
	return s, err
}

// put writes users, each of whom is not as it was, and records the changes. No id comes twice.
func (t *transaction) put(ctx context.Context, puts []draft) error {
	for len(puts) > 0 {
		n, s := 1, &t.one
		if len(puts) >= batchRows {
			n, s = batchRows, &t.many
		}
		if s.users == nil {
			var err error
			if *s, err = t.prepare(ctx, n); err != nil {
				return err
			}
		}
		if err := t.putBatch(ctx, *s, puts[:n]); err != nil {
			return err
		}
		puts = puts[n:]
	}
	return nil
}

func (t *transaction) putBatch(ctx context.Context, s statements, puts []draft) error {
	t.arguments = t.arguments[:0]
	for i := range puts {
		u := &puts[i].user
		t.arguments = append(t.arguments, u.ID, u.Name, u.Age, u.Email, directory.FoldKey(u.Name), directory.FoldKey(u.Email))
	}
	if _, err := s.users.ExecContext(ctx, t.arguments...); err != nil {
		return err
	}
	t.arguments = t.arguments[:0]
	for i := range puts {
		u, before := &puts[i].user, puts[i].before
		if before == nil {
			t.arguments = append(t.arguments, u.ID, directory.Created, u.Name, u.Age, u.Email, t.micros, nil, nil)
			continue
		}
		t.arguments = append(t.arguments, u.ID, directory.Updated, u.Name, u.Age, u.Email, before.Created.UnixMicro(),
			unlessEqual(before.Name, u.Name), unlessEqual(before.Email, u.Email))
	}
	t.changes += int64(len(puts))
	_, err := s.changes.ExecContext(ctx, t.arguments...)
	return err
}

// unlessEqual returns a text from before the change, nil if it is that of now.
func unlessEqual(before, now string) any {
	if before == now {
		return nil
	}
	return before
}

// finish records the revision. What follows is the commit.
func (t *transaction) finish(ctx context.Context) (mark string, err error) {
	if _, err := t.tx.ExecContext(ctx, "INSERT INTO revisions VALUES (?, ?, ?, ?)", t.revision, t.micros, t.actor, t.total+t.changes); err != nil {
		return "", err
	}
	// The ids that this change has used are there, but for rows that an import has taken out again.
	err = t.tx.QueryRowContext(ctx, `UPDATE directory SET revision = ?2, recorded = ?2, highest_id = max(?3, `+highestPresent+`), `+setMark+`
		WHERE one = 1 RETURNING mark`, highestID, t.revision, t.highest).Scan(&mark)
	return mark, err
}

// commit makes the change visible.
func (t *transaction) commit(ctx context.Context) (directory.State, error) {
	if err := ctx.Err(); err != nil {
		return directory.State{}, errors.Join(err, t.rollback())
	}
	if err := t.store.checkInPlace(t.db); err != nil {
		return directory.State{}, errors.Join(err, t.rollback())
	}
	mark, err := t.finish(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return directory.State{}, errors.Join(t.store.failed(t.db, err), t.rollback())
	}
	return t.state(), t.commitMarked(mark)
}

// commitMarked commits a change that has set this mark.
func (t *transaction) commitMarked(mark string) error {
	if err := t.tx.Commit(); err != nil {
		return errors.Join(t.store.failed(t.db, err), t.rollback())
	}
	t.db.edits.mark = mark
	t.store.endOwnEpoch(t.db)
	t.end()
	return nil
}

// rollback drops the change; after commit it does nothing.
func (t *transaction) rollback() error {
	if t.conn == nil {
		return nil
	}
	err := t.tx.Rollback()
	t.db.edits = t.edits
	t.end()
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return t.store.failed(t.db, err)
}

// end releases the connection and the database.
func (t *transaction) end() {
	if !t.keep {
		t.conn.Close()
		t.store.done(t.db)
	}
	t.conn = nil
}
