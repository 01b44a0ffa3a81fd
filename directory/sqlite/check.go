package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"example.com/roster/directory"
)

// A reading is a store that is open to be read once. It is not brought up to date.
type reading struct {
	lock    *storeLock
	db      *sql.DB
	withLog bool // the store had a log when it was opened
}

// close closes the store. If nobody else has it open, SQLite then takes the whole log up into the file
// and removes it, as after a crash. So the file has to say that it is complete without a log; else the
// next one to open it would miss the log.
func (r *reading) close() {
	if r.withLog && r.lock.alone() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// If this fails, the next one to open the store finds the log, or says that it is missing.
		if _, err := r.db.ExecContext(ctx, "PRAGMA query_only = 0"); err == nil {
			_, _ = r.db.ExecContext(ctx, markClosed)
		}
	}
	r.db.Close()
	r.lock.release()
}

// openToRead opens the store at path, which must exist and may be in use, with these parameters.
func openToRead(ctx context.Context, path, parameters string) (_ *reading, err error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		return nil, describe(path, errNoStore)
	}
	lock, err := lockShared(ctx, path)
	if err != nil {
		return nil, err
	}
	r := &reading{lock: lock, db: open(path, parameters)}
	if info, err := os.Stat(followLinks(path) + "-wal"); err == nil {
		r.withLog = info.Size() > 0
	}
	r.db.SetMaxOpenConns(1)
	if err = checkLog(ctx, path, true); err == nil {
		err = checkOurs(ctx, r.db)
	}
	if err != nil {
		r.withLog = false // it may belong to another file
		r.close()
		return nil, describe(path, err)
	}
	return r, nil
}

// Check reads all of the store at path, which may be in use, and calls problem with a line for each
// fault: damaged pages, users that break the rules (directory.User.Validate), and a history that does not fit
// the users. An error means that
// the store could not be checked.
func Check(ctx context.Context, path string, problem func(string)) (Summary, error) {
	r, err := openToRead(ctx, path, "_query_only=1")
	if err != nil {
		return Summary{}, err
	}
	defer r.close()
	tx, err := r.db.BeginTx(ctx, nil) // one state for all that follows
	if err != nil {
		return Summary{}, describe(path, err)
	}
	defer tx.Rollback()
	damaged := false
	note := func(text string) {
		damaged = true
		problem("damaged: " + text)
	}
	if err := eachRow(ctx, tx, "PRAGMA integrity_check", func(rows *sql.Rows) error {
		var found string
		if err := rows.Scan(&found); err != nil || found == "ok" {
			return err
		}
		note(found)
		return nil
	}); isDamaged(err) {
		note(err.Error())
	} else if err != nil {
		return Summary{}, describe(path, err)
	}
	if err := eachRow(ctx, tx, "SELECT id, name, age, email FROM users", func(rows *sql.Rows) error {
		var u directory.User
		var id int64
		if err := rows.Scan(&id, &u.Name, &u.Age, &u.Email); err != nil {
			problem(fmt.Sprintf("user %d: %v", id, err))
			return nil
		}
		if u.ID = int32(id); int64(u.ID) != id {
			problem(fmt.Sprintf("user %d: the id is out of range: nobody can look it up", id))
		} else if err := u.Validate(); err != nil {
			problem(fmt.Sprintf("user %d: %v", id, err))
		}
		return nil
	}); isDamaged(err) {
		note("the users that follow cannot be read: " + err.Error())
	} else if err != nil {
		return Summary{}, describe(path, err)
	}
	if err := checkHistory(ctx, tx, problem); isDamaged(err) {
		note("the history cannot be read: " + err.Error())
	} else if err != nil {
		return Summary{}, describe(path, err)
	}
	s, err := summarise(ctx, tx)
	if err != nil && !(damaged && isDamaged(err)) {
		return s, describe(path, err)
	}
	return s, nil
}

// Each query returns what is wrong, by what is said of it.
var historyChecks = []struct{ problem, query string }{
	{"the last revision and the one that was recorded: ",
		"SELECT revision || ', ' || recorded FROM directory WHERE recorded <> revision OR oldest > revision"},
	{"revisions are missing: of those from the oldest to the last one there are ",
		`SELECT count(r.revision) || ', not ' || (d.revision - d.oldest + 1) FROM directory AS d LEFT JOIN revisions AS r ON r.revision >= d.oldest
		GROUP BY d.one HAVING count(r.revision) <> d.revision - d.oldest + 1 OR max(r.revision) <> d.revision`},
	{"times fall, or numbers of changes are wrong, at revision ",
		`SELECT r.revision FROM revisions AS r JOIN revisions AS p ON p.revision = r.revision - 1 JOIN directory AS d ON r.revision > d.oldest
		WHERE r.time < p.time OR r.total - p.total <> (SELECT count(*) FROM changes AS c WHERE c.revision = r.revision)`},
	{"the last change does not fit the user: ",
		`SELECT c.id FROM (SELECT a.id, max(a.revision) AS revision FROM changes AS a JOIN directory AS d ON a.revision > d.oldest GROUP BY a.id) AS last
		JOIN changes AS c ON c.revision = last.revision AND c.id = last.id LEFT JOIN users AS u ON u.id = c.id
		WHERE CASE c.kind WHEN 3 THEN u.id IS NOT NULL
			ELSE u.id IS NULL OR u.revision <> c.revision OR u.name <> c.name OR u.age <> c.age OR u.email <> c.email END`},
	{"a change is missing: the revision is newer than the last change, of user ",
		`SELECT u.id FROM users AS u JOIN directory AS d WHERE u.revision > d.revision OR u.revision > d.oldest
		AND NOT EXISTS (SELECT 1 FROM changes AS c WHERE c.revision = u.revision AND c.id = u.id)`},
	{"the key of the name or of the email is wrong (a running server mends it): user ",
		"SELECT id FROM users WHERE name_key <> roster_fold_key(name) OR email_key <> roster_fold_key(email)"},
}

// checkHistory looks whether what is recorded fits the users.
func checkHistory(ctx context.Context, tx *sql.Tx, problem func(string)) error {
	var version int
	if err := tx.QueryRowContext(ctx, "SELECT user_version FROM pragma_user_version").Scan(&version); err != nil || version < 3 {
		return err // a store from before there was one
	}
	for _, check := range historyChecks {
		if err := eachRow(ctx, tx, check.query, func(rows *sql.Rows) error {
			var found string
			err := rows.Scan(&found)
			problem(check.problem + found)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func eachRow(ctx context.Context, tx *sql.Tx, query string, do func(*sql.Rows) error) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := do(rows); err != nil {
			rows.Close()
			return err
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}
