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
// fault: damaged pages, and users that break the rules (directory.User.Validate). An error means that
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
	s, err := summarise(ctx, tx)
	if err != nil && !(damaged && isDamaged(err)) {
		return s, describe(path, err)
	}
	return s, nil
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
