package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math"

	"example.com/roster/directory"
)

// importCache is how much memory an import may take for pages, in KiB. Names and emails come in no order, so
// each user changes a page anywhere in two indexes: beyond the cache every one of them is read and written.
const importCache = 20 << 10

// usualCache is SQLite's own.
const usualCache = 2000

func setCache(kib int) string { return fmt.Sprintf("PRAGMA main.cache_size = -%d", kib) }

var errEnded = errors.New("the import has ended")

// lookUp is how many users are compared with the directory at a time.
const lookUp = 512

// importing is an import under way. It implements directory.Import.
//
// What it has written has its revision. Users that were as they are now are not written: their ids are in a
// temporary table, so that a duplicate is found without keeping ids in memory.
type importing struct {
	*transaction
	done directory.ImportDone
	// last is the greatest id so far; a greater one cannot be a duplicate. top is the greatest id that the
	// directory had; a greater one is new.
	last, top int64
	// sole is set if it was looked for emails that several users have got from this import, and there are none.
	sole      bool
	puts      []draft
	ids       []int32
	unchanged []int32
}

// Import implements directory.Store.
func (s *Store) Import(ctx context.Context, actor string) (directory.Import, error) {
	t, err := s.begin(ctx, actor)
	if err != nil {
		return nil, err
	}
	c := &importing{transaction: t, last: math.MinInt64}
	for _, statement := range []string{
		"CREATE TEMP TABLE IF NOT EXISTS unchanged (id INTEGER PRIMARY KEY)",
		"DELETE FROM temp.unchanged",
		setCache(importCache),
	} {
		if _, err := t.tx.ExecContext(ctx, statement); err != nil {
			return nil, c.fail(ctx, err)
		}
	}
	if err := t.tx.QueryRowContext(ctx, "SELECT coalesce(max(id), ?) FROM users", int64(math.MinInt64)).Scan(&c.top); err != nil {
		return nil, c.fail(ctx, err)
	}
	return c, nil
}

// fail ends an import that could not begin.
func (c *importing) fail(ctx context.Context, err error) error {
	err = c.failed(ctx, err)
	_ = c.Rollback()
	return err
}

// failed describes an error. A context that ends also ends the transaction and closes its statements, and
// package sql may report either.
func (c *importing) failed(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return c.store.failed(c.db, err)
}

// Add implements directory.Import.
func (c *importing) Add(ctx context.Context, users []directory.User) (duplicates []int, err error) {
	c.sole = false
	for i := range users {
		if err := validate(&users[i]); err != nil {
			return nil, err
		}
	}
	for start := 0; start < len(users); start += lookUp {
		found, err := c.addSome(ctx, users[start:min(start+lookUp, len(users))])
		if err != nil {
			return nil, c.failed(ctx, err)
		}
		for _, i := range found {
			duplicates = append(duplicates, start+i)
		}
	}
	return duplicates, nil
}

// A known is a user of the directory that an import gives again.
type known struct {
	directory.Record
	again bool // it was in the import before
}

func (c *importing) addSome(ctx context.Context, users []directory.User) (duplicates []int, err error) {
	ascends := c.ascends(users)
	var present map[int32]*known
	if !ascends || int64(users[0].ID) <= c.top {
		if present, err = c.present(ctx, users); err != nil {
			return nil, err
		}
	}
	c.puts, c.unchanged = c.puts[:0], c.unchanged[:0]
	var here map[int32]struct{} // the ids of users so far
	if !ascends {
		here = make(map[int32]struct{}, len(users))
	}
	for i := range users {
		u := &users[i]
		before := present[u.ID]
		if !ascends {
			_, again := here[u.ID]
			if again || before != nil && before.again {
				duplicates = append(duplicates, i)
				continue
			}
			here[u.ID] = struct{}{}
		}
		switch {
		case before == nil:
			c.puts = append(c.puts, draft{user: *u})
			c.done.Created++
		case before.User == *u:
			c.unchanged = append(c.unchanged, u.ID)
			c.done.Unchanged++
		default:
			c.puts = append(c.puts, draft{user: *u, before: &before.Record})
			c.done.Updated++
		}
	}
	if len(c.unchanged) > 0 {
		if _, err := c.tx.ExecContext(ctx, "INSERT INTO temp.unchanged SELECT value FROM json_each(?)", jsonArray(c.unchanged)); err != nil {
			return nil, err
		}
	}
	return duplicates, c.put(ctx, c.puts)
}

// ascends records the highest id, and reports whether each of users has a greater id than all that
// came before it. Most files are in the order of their ids.
func (c *importing) ascends(users []directory.User) bool {
	ascends := true
	for i := range users {
		if id := int64(users[i].ID); id > c.last {
			c.last = id
		} else {
			ascends = false
		}
	}
	return ascends
}

// present returns those of users whom the directory has, as it has them.
func (c *importing) present(ctx context.Context, users []directory.User) (map[int32]*known, error) {
	c.ids = c.ids[:0]
	for i := range users {
		c.ids = append(c.ids, users[i].ID)
	}
	rows, err := c.tx.QueryContext(ctx, `SELECT `+userColumns+`, same.id IS NOT NULL
		FROM json_each(?) AS asked CROSS JOIN users AS u ON u.id = asked.value LEFT JOIN temp.unchanged AS same ON same.id = u.id`, jsonArray(c.ids))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[int32]*known, len(users))
	for rows.Next() {
		k := new(known)
		var created, updated int64
		if err := rows.Scan(&k.ID, &k.Name, &k.Age, &k.Email, &created, &updated, &k.Revision, &k.again); err != nil {
			return nil, err
		}
		k.Created, k.Updated = moment(created), moment(updated)
		k.again = k.again || k.Revision == c.revision
		found[k.ID] = k
	}
	return found, rows.Err()
}

// RemoveOthers implements directory.Import.
func (c *importing) RemoveOthers(ctx context.Context) (removed int64, err error) {
	result, err := c.tx.ExecContext(ctx, `INSERT INTO changes SELECT ?1, u.id, ?2, '', 0, '', u.created, u.name, u.email FROM users AS u
		WHERE u.revision <> ?1 AND NOT EXISTS (SELECT 1 FROM temp.unchanged AS same WHERE same.id = u.id) ORDER BY u.id`, c.revision, directory.Deleted)
	if err == nil {
		removed, err = result.RowsAffected()
	}
	if err == nil {
		_, err = c.tx.ExecContext(ctx, `DELETE FROM users WHERE id IN (SELECT id FROM changes WHERE revision = ? AND kind = ?)`, c.revision, directory.Deleted)
	}
	if err != nil || ctx.Err() != nil {
		return 0, c.failed(ctx, err)
	}
	c.changes += removed
	c.done.Removed += removed
	return removed, nil
}

// Of the emails that several users have, selectTaken has the users at fault, each with the lowest id of
// another one: those who got the email from this import, but for the one with the lowest id if all did. The emails
// are those of few users of the import, or else all that several users have.
const selectTaken = `WITH few AS MATERIALIZED (%s),
	sharing AS MATERIALIZED (SELECT u.id, u.email_key, c.id IS NOT NULL AND (c.kind = 1 OR roster_fold_key(coalesce(c.email_before, c.email)) <> u.email_key) AS anew
		FROM few JOIN users AS u ON u.email_key = few.email_key LEFT JOIN changes AS c ON c.revision = ?1 AND c.id = u.id),
	keeping AS MATERIALIZED (SELECT email_key, coalesce(min(iif(anew, NULL, id)), min(id)) AS id FROM sharing GROUP BY email_key)
	SELECT sharing.id, keeping.id FROM sharing JOIN keeping USING (email_key)
	WHERE sharing.anew AND sharing.id <> keeping.id ORDER BY sharing.id LIMIT ?2`

const (
	sharedByAny = `SELECT email_key FROM users WHERE email_key <> '' AND ?1 GROUP BY email_key HAVING count(*) > 1`
	// sharedByFew is quicker where the import is small. It has no EXISTS, which SQLite would make a join of: all
	// users with an email would be compared with each other then.
	sharedByFew = `SELECT DISTINCT u.email_key FROM changes AS c CROSS JOIN users AS u ON u.id = c.id
		WHERE c.revision = ?1 AND c.kind <> 3 AND u.email_key <> ''
		AND (SELECT count(*) FROM (SELECT 1 FROM users AS o WHERE o.email_key = u.email_key LIMIT 2)) > 1`
)

// EmailsTaken implements directory.Import.
func (c *importing) EmailsTaken(ctx context.Context, limit int) ([]directory.ChangeError, error) {
	taken, err := c.emailsTaken(ctx, limit)
	c.sole = err == nil && len(taken) == 0
	return taken, c.failed(ctx, err)
}

func (c *importing) emailsTaken(ctx context.Context, limit int) (taken []directory.ChangeError, err error) {
	shared := sharedByAny
	if c.changes < fewChanges {
		shared = sharedByFew
	}
	rows, err := c.tx.QueryContext(ctx, fmt.Sprintf(selectTaken, shared), c.revision, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var others []int32
	for rows.Next() {
		var id, other int64
		if err := rows.Scan(&id, &other); err != nil {
			return nil, err
		}
		taken = append(taken, directory.ChangeError{Err: directory.ErrEmailTaken, ID: int32(id)})
		others = append(others, int32(other))
	}
	if err := rows.Err(); err != nil || len(taken) == 0 {
		return nil, err
	}
	rows.Close()
	rows, err = c.tx.QueryContext(ctx, selectUsers, jsonArray(distinct(others)))
	if err != nil {
		return nil, err
	}
	users, err := scanUsers(rows, nil)
	if err != nil {
		return nil, err
	}
	byID := make(map[int32]*directory.Record, len(users))
	for i := range users {
		byID[users[i].ID] = &users[i]
	}
	for i := range taken {
		taken[i].Present = byID[others[i]]
	}
	return taken, nil
}

// fewChanges is how many changes of an import are looked up one by one.
const fewChanges = 50_000

// Undo implements directory.Import. As this import has had the write lock since it began, a reader sees the
// users as they were.
func (c *importing) Undo(ctx context.Context, ids []int32) error {
	c.sole = false
	return c.failed(ctx, c.undo(ctx, distinct(ids)))
}

func (c *importing) undo(ctx context.Context, ids []int32) error {
	list, _, err := c.db.get(ctx, ids)
	if err != nil {
		return err
	}
	before := make(map[int32]*directory.Record, len(list))
	for i := range list {
		before[list[i].ID] = &list[i]
	}
	for _, id := range ids {
		result, err := c.tx.ExecContext(ctx, "DELETE FROM changes WHERE revision = ? AND id = ? AND kind <> ?", c.revision, id, directory.Deleted)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			if err != nil {
				return err
			}
			continue // the import has not changed it
		}
		c.changes--
		if u := before[id]; u == nil {
			c.done.Created--
			_, err = c.tx.ExecContext(ctx, "DELETE FROM users WHERE id = ?", id)
		} else {
			c.done.Updated--
			_, err = c.tx.ExecContext(ctx, "UPDATE users SET name = ?, age = ?, email = ?, revision = ?, updated = ?, name_key = ?, email_key = ? WHERE id = ?",
				u.Name, u.Age, u.Email, u.Revision, u.Updated.UnixMicro(), directory.FoldKey(u.Name), directory.FoldKey(u.Email), id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Commit implements directory.Import.
func (c *importing) Commit(ctx context.Context) (done directory.ImportDone, err error) {
	if c.conn == nil {
		return done, errEnded
	}
	defer c.tidy()()
	if !c.sole {
		taken, err := c.EmailsTaken(ctx, 1)
		if err == nil && len(taken) > 0 {
			err = &taken[0]
		}
		if err != nil {
			_ = c.rollback()
			return done, err
		}
	}
	c.done.State, err = c.commit(ctx)
	if err != nil {
		return done, err
	}
	return c.done, nil
}

// Rollback implements directory.Import.
func (c *importing) Rollback() error {
	if c.conn == nil {
		return nil
	}
	defer c.tidy()()
	return c.rollback()
}

// tidy returns what remains to be done when the import has ended: its memory is given back, and so is the
// space of the log, into which an import writes also when it is rolled back. On a full disk nothing else
// would do so. It waits for readers; if it fails, the next change tries. No other change can begin before.
func (c *importing) tidy() func() {
	conn, db := c.conn, c.db
	c.keep = true
	return func() {
		ctx := context.Background()
		_ = db.recordPending(ctx, conn)
		for _, statement := range []string{"DROP TABLE IF EXISTS temp.unchanged", "PRAGMA wal_checkpoint(TRUNCATE)", setCache(usualCache), "PRAGMA shrink_memory"} {
			_, _ = conn.ExecContext(ctx, statement)
		}
		conn.Close()
		c.store.done(db)
	}
}
