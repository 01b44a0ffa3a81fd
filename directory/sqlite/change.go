package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"

	"example.com/roster/directory"
)

// batchRows is how many rows one statement of an import inserts: beyond a few dozen, the cost of a
// row no longer falls.
const batchRows = 32

// insertRows returns the statement that inserts n users at a revision. The revision is part of the
// text and the parameters are not numbered, because the driver looks up each numbered parameter by
// its name among all the others.
//
// A row that the same change has already written is left as it is and does not count as affected.
// That is how duplicates are found without keeping the ids in memory.
func insertRows(n int, revision int64) string {
	var text strings.Builder
	text.WriteString("INSERT INTO users (revision, id, name, age, email) VALUES ")
	for i := range n {
		if i > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, "(%d,?,?,?,?)", revision)
	}
	text.WriteString(` ON CONFLICT (id) DO UPDATE SET
		revision = excluded.revision, name = excluded.name, age = excluded.age, email = excluded.email
		WHERE users.revision <> excluded.revision`)
	return text.String()
}

// change is one write transaction. It implements directory.Import.
type change struct {
	store    *Store
	db       *database
	conn     *sql.Conn // the only connection of the writer, held until the end
	tx       *sql.Tx
	revision int64
	before   edits // restored if the change is rolled back
	isImport bool  // and may have made the log long
	// one and many insert 1 and batchRows rows.
	one, many *sql.Stmt
	arguments []any
	// highest is the greatest id so far. A greater one cannot be a duplicate.
	highest int64
}

// Import implements directory.Store.
func (s *Store) Import(ctx context.Context) (directory.Import, error) {
	c, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	c.isImport = true
	return c, nil
}

// begin takes the write lock and the next revision.
func (s *Store) begin(ctx context.Context) (*change, error) {
	s.checkFile(ctx) // a write to a file that was moved away would be lost
	db, err := s.use()
	if err != nil {
		return nil, err
	}
	c, err := s.beginOn(ctx, db)
	if err != nil {
		s.done(db)
		return nil, err
	}
	return c, nil
}

func (s *Store) beginOn(ctx context.Context, db *database) (*change, error) {
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
	c := &change{store: s, db: db, conn: conn, tx: tx, before: db.edits, arguments: make([]any, 0, 4*batchRows), highest: math.MinInt64}
	if err := c.takeRevision(ctx); err != nil {
		tx.Rollback()
		db.edits = c.before
		conn.Close()
		return nil, s.failed(db, err)
	}
	return c, nil
}

// takeRevision takes the next revision. If another program has changed the file, it takes the one
// after that, so that it shows that there was one more change.
func (c *change) takeRevision(ctx context.Context) error {
	edited, err := c.db.edits.look(ctx, c.conn, c.tx)
	if err != nil {
		return err
	}
	if edited {
		// Without a mark: a change sets one, once.
		if _, err := c.tx.ExecContext(ctx, "UPDATE directory SET revision = revision + 1 WHERE one = 1"); err != nil {
			return err
		}
	}
	return c.tx.QueryRowContext(ctx, nextRevision).Scan(&c.revision)
}

// Add implements directory.Import.
func (c *change) Add(ctx context.Context, users []directory.User) (duplicates []int, err error) {
	for i := range users {
		if err := validate(&users[i]); err != nil {
			return nil, err
		}
	}
	for start := 0; start < len(users); {
		batch := users[start:min(start+batchRows, len(users))]
		found, err := c.addBatch(ctx, batch)
		if err != nil {
			return nil, c.store.failed(c.db, err)
		}
		for _, i := range found {
			duplicates = append(duplicates, start+i)
		}
		start += len(batch)
	}
	return duplicates, nil
}

// RemoveOthers implements directory.Import. Every row that this change has written has its revision.
func (c *change) RemoveOthers(ctx context.Context) (removed int64, err error) {
	result, err := c.tx.ExecContext(ctx, "DELETE FROM users WHERE revision <> ?", c.revision)
	if err == nil {
		removed, err = result.RowsAffected()
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return removed, c.store.failed(c.db, err)
}

// addBatch inserts a full batch with one statement. If the batch may contain a duplicate, it runs
// under a savepoint. If a row turns out to be one, the batch is rolled back and inserted row by
// row, which shows which rows are duplicates.
func (c *change) addBatch(ctx context.Context, users []directory.User) (duplicates []int, err error) {
	if len(users) == batchRows {
		if c.ascends(users) {
			_, err := c.insert(ctx, &c.many, users)
			return nil, err
		}
		if _, err := c.tx.ExecContext(ctx, "SAVEPOINT batch"); err != nil {
			return nil, err
		}
		affected, err := c.insert(ctx, &c.many, users)
		if err != nil {
			return nil, err
		}
		end := "ROLLBACK TO batch; RELEASE batch" // ROLLBACK TO alone would leave the savepoint open
		if affected == batchRows {
			end = "RELEASE batch"
		}
		if _, err := c.tx.ExecContext(ctx, end); err != nil || affected == batchRows {
			return nil, err
		}
	}
	c.ascends(users)
	for i := range users {
		affected, err := c.insert(ctx, &c.one, users[i:i+1])
		if err != nil {
			return nil, err
		}
		if affected == 0 {
			duplicates = append(duplicates, i)
		}
	}
	return duplicates, nil
}

// ascends records the highest id, and reports whether each of users has a greater id than all that
// came before it. Most files are in the order of their ids.
func (c *change) ascends(users []directory.User) bool {
	ascends := true
	for i := range users {
		if id := int64(users[i].ID); id > c.highest {
			c.highest = id
		} else {
			ascends = false
		}
	}
	return ascends
}

// insert runs *statement, which it prepares at its first use, and returns how many rows were
// written.
func (c *change) insert(ctx context.Context, statement **sql.Stmt, users []directory.User) (_ int64, err error) {
	defer func() {
		// A context that ends also ends the transaction and closes its statements, and package sql may
		// report either.
		if err != nil && ctx.Err() != nil {
			err = ctx.Err()
		}
	}()
	if *statement == nil {
		prepared, err := c.tx.PrepareContext(ctx, insertRows(len(users), c.revision))
		if err != nil {
			return 0, err
		}
		*statement = prepared
	}
	c.arguments = c.arguments[:0]
	for i := range users {
		u := &users[i]
		c.arguments = append(c.arguments, u.ID, u.Name, u.Age, u.Email)
	}
	result, err := (*statement).ExecContext(ctx, c.arguments...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// Commit implements directory.Import.
func (c *change) Commit(ctx context.Context) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, errors.Join(err, c.Rollback())
	}
	if err := c.store.checkInPlace(c.db); err != nil {
		return 0, errors.Join(err, c.Rollback())
	}
	err := c.tx.Commit()
	if err == nil && c.conn != nil {
		c.db.edits.revision = c.revision
	}
	c.end()
	if err != nil {
		return 0, c.store.failed(c.db, err)
	}
	return c.store.reported(c.db, c.revision), nil
}

// Rollback implements directory.Import.
func (c *change) Rollback() error {
	err := c.tx.Rollback()
	if c.conn != nil {
		c.db.edits = c.before
	}
	c.end()
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return c.store.failed(c.db, err)
}

// end releases the connection and the database. Only the first call does anything.
func (c *change) end() {
	if c.conn == nil {
		return
	}
	if c.isImport {
		// An import that was rolled back leaves its pages in the log, too, and on a full disk nothing
		// else gives their space back. This waits for readers; if it fails, the next change tries.
		_, _ = c.conn.ExecContext(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)")
	}
	c.conn.Close()
	c.conn = nil
	c.store.done(c.db)
}
