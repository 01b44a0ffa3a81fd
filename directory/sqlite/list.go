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

const (
	// maxMatches is how many users are found by one field and then put in the order of another. Where more
	// match, users are taken in the order asked for until there are enough.
	maxMatches = 1000
	// exportTime is the default of Config.ExportTime.
	exportTime = 30 * time.Second
	// exportBatch is how many users an export hands over at a time.
	exportBatch = 500
	// maxExports is how many exports run at a time. They have connections of their own, since look-ups must
	// not wait for them.
	maxExports = 4
)

// A condition is a part of a WHERE clause with its arguments.
type condition struct {
	text      string
	arguments []any
}

// keyIs returns the condition that column begins with, or is, a key. With a plus before the name SQLite does not
// look for it in an index.
func keyIs(column, key string, whole bool) condition {
	switch {
	case whole:
		return condition{column + " = ?", []any{key}}
	case key == "":
		return condition{}
	}
	return keyBetween(column, column, key)
}

// keyBetween is keyIs with a column for each end of what begins with a key.
func keyBetween(first, last, key string) condition {
	return condition{first + " >= ? AND " + last + " < ?", []any{key, after(key)}}
}

// where joins conditions into a clause. Empty ones are left out.
func where(conditions ...condition) (clause string, arguments []any) {
	var texts []string
	for _, c := range conditions {
		if c.text != "" {
			texts = append(texts, c.text)
			arguments = append(arguments, c.arguments...)
		}
	}
	if len(texts) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(texts, " AND "), arguments
}

// An access is how users are found: through an index, empty for the table.
type access struct{ index string }

func (a access) table() string {
	if a.index == "" {
		return " FROM users AS u NOT INDEXED"
	}
	return " FROM users AS u INDEXED BY " + a.index
}

const (
	byName  = "users_by_name"
	byEmail = "users_by_email"
)

// conditions returns those of a filter for an access.
func (a access) conditions(f directory.Filter) (name, email condition) {
	nameColumn, emailColumn := "+u.name_key", "+u.email_key"
	if a.index == byName {
		nameColumn = "u.name_key"
	}
	if a.index == byEmail {
		emailColumn = "u.email_key"
	}
	return keyIs(nameColumn, f.NamePrefix, f.NameIs), keyIs(emailColumn, f.EmailPrefix, f.EmailIs)
}

// choose returns the access by which a page is found soonest: by a field of which few users match, else in
// the order of the page.
func choose(ctx context.Context, tx *sql.Tx, q *directory.Query) (access, error) {
	inOrder := access{}
	if q.ByName {
		inOrder.index = byName
	}
	for _, index := range []string{byEmail, byName} {
		if index == inOrder.index {
			continue // it gives the order and the filter at once
		}
		a := access{index}
		name, email := a.conditions(q.Filter)
		c := name
		if index == byEmail {
			c = email
		}
		if c.text == "" {
			continue
		}
		clause, arguments := where(c)
		var matches int
		err := tx.QueryRowContext(ctx, fmt.Sprintf("SELECT count(*) FROM (SELECT 1%s%s LIMIT %d)", a.table(), clause, maxMatches+1), arguments...).Scan(&matches)
		if err != nil || matches <= maxMatches {
			return a, err
		}
	}
	return inOrder, nil
}

// List implements directory.Store.
func (s *Store) List(ctx context.Context, q directory.Query) (page directory.Page, err error) {
	if q.Limit < 1 {
		return page, errors.New("a page has at least 1 user")
	}
	err = s.reading(ctx, reader, func(db *database, tx *sql.Tx, state directory.State) error {
		page.State = state
		a, err := choose(ctx, tx, &q)
		if err != nil {
			return err
		}
		name, email := a.conditions(q.Filter)
		order, from, than := "u.id", condition{}, ">"
		if q.Descending {
			than = "<"
		}
		if q.ByName {
			order = "u.name_key, u.id"
		}
		switch {
		case q.After == nil:
		case q.ByName && !q.Filter.NameIs:
			from = condition{"(u.name_key, u.id) " + than + " (?, ?)", []any{q.After.NameKey, q.After.ID}}
			// The index is to be entered where the page begins, and not where the prefix does.
			if prefix := q.Filter.NamePrefix; prefix != "" && a.index == byName && !q.Descending {
				name = keyBetween("+u.name_key", "u.name_key", prefix)
			} else if prefix != "" && a.index == byName {
				name = keyBetween("u.name_key", "+u.name_key", prefix)
			}
		default:
			from = condition{"u.id " + than + " ?", []any{q.After.ID}}
		}
		if q.Descending {
			order = strings.ReplaceAll(order, ",", " DESC,") + " DESC"
		}
		clause, arguments := where(name, email, from)
		rows, err := tx.QueryContext(ctx, "SELECT "+userColumns+a.table()+clause+" ORDER BY "+order+" LIMIT ?", append(arguments, int64(q.Limit)+1)...)
		if err != nil {
			return err
		}
		if page.Users, err = scanUsers(rows, nil); err != nil {
			return err
		}
		if page.More = len(page.Users) > q.Limit; page.More {
			page.Users = page.Users[:q.Limit]
		}
		if q.Total {
			page.Total, err = total(ctx, tx, q.Filter)
		}
		return err
	})
	return page, s.failedReading(err)
}

// total counts the users that match a filter.
func total(ctx context.Context, tx *sql.Tx, f directory.Filter) (n int64, err error) {
	a := access{}
	switch {
	case f.EmailIs || f.EmailPrefix != "":
		a.index = byEmail
	case f.NameIs || f.NamePrefix != "":
		a.index = byName
	default:
		err = tx.QueryRowContext(ctx, countUsers).Scan(&n)
		return n, err
	}
	name, email := a.conditions(f)
	clause, arguments := where(name, email)
	err = tx.QueryRowContext(ctx, "SELECT count(*)"+a.table()+clause, arguments...).Scan(&n)
	return n, err
}

// Export implements directory.Store.
func (s *Store) Export(ctx context.Context, filter directory.Filter, each func(directory.State, []directory.Record) error) (state directory.State, err error) {
	// When the time is over, the transaction ends by itself, also while each waits for a slow reader.
	within, cancel := context.WithTimeout(ctx, s.exportTime)
	defer cancel()
	var refused error // by each
	err = s.reading(within, func(db *database) *sql.DB { return db.exports }, func(db *database, tx *sql.Tx, now directory.State) error {
		state = now
		a := access{}
		if filter.EmailIs {
			a.index = byEmail
		}
		name, email := a.conditions(filter)
		clause, arguments := where(name, email)
		rows, err := tx.QueryContext(within, "SELECT "+userColumns+a.table()+clause+" ORDER BY u.id", arguments...)
		if err != nil {
			return err
		}
		defer rows.Close()
		users := make([]directory.Record, 0, exportBatch)
		for rows.Next() {
			users = append(users, directory.Record{})
			if err := scanUser(rows, &users[len(users)-1]); err != nil {
				return err
			}
			if len(users) < exportBatch {
				continue
			}
			if refused = each(state, users); refused != nil {
				return refused
			}
			users = users[:0]
		}
		if err := rows.Err(); err != nil || len(users) == 0 {
			return err
		}
		refused = each(state, users)
		return refused
	})
	switch {
	case err == nil:
		return state, nil
	case refused != nil:
		return directory.State{}, refused
	case within.Err() != nil && ctx.Err() == nil:
		return directory.State{}, fmt.Errorf("%w: an export may take %v", directory.ErrOverdue, s.exportTime)
	}
	return directory.State{}, s.failedReading(err)
}
