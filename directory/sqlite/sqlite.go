package sqlite

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"example.com/roster/directory"
)

// The statements of a Store. Ids are passed as one JSON array, so that one prepared statement
// serves batches of any size.
const (
	selectUsers = `SELECT u.id, u.name, u.age, u.email
		FROM json_each(?) AS asked CROSS JOIN users AS u ON u.id = asked.value`
	selectRevision = `SELECT revision FROM directory WHERE one = 1`
	nextRevision   = `UPDATE directory SET revision = revision + 1, ` + setMark + ` WHERE one = 1 RETURNING revision`
	deleteUsers    = `DELETE FROM users WHERE id IN (SELECT value FROM json_each(?))`
	countUsers     = `SELECT count(*) FROM users`
	selectEpoch    = `SELECT epoch FROM directory WHERE one = 1`

	// markChange is a change that leaves the users as they are. Every change sets a new mark: log.go
	// has what for.
	markChange = `UPDATE directory SET ` + setMark + ` WHERE one = 1`
	markClosed = `UPDATE directory SET ` + newMark + `, closed = 1 WHERE one = 1`
	setMark    = newMark + `, closed = 0`
	newMark    = `previous = mark, mark = lower(hex(randomblob(16))), cookie = (SELECT schema_version FROM pragma_schema_version)`
)

var setBusyTimeout = fmt.Sprintf("PRAGMA busy_timeout = %d", busyTimeout.Milliseconds())

// Store is a directory.Store on one SQLite file.
type Store struct {
	path string
	lock *storeLock
	warn func(string)

	// checking is held while a call checks whether the path still names the open file, and opens
	// another.
	checking sync.Mutex

	mu          sync.Mutex // guards the fields below and those of database that say so
	db          *database  // the open one
	unavailable error      // why db must not be used now
	closed      bool
	newest      int64 // the highest revision that was returned
}

// Close implements directory.Store. The last process that closes the store leaves one file, which
// says that it is complete without a log.
func (s *Store) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	db := s.db
	s.mu.Unlock()
	if closed {
		return nil
	}
	if s.lock.alone() && !db.readOnly && s.checkInPlace(db) == nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// If this fails, the next one to open the store finds the log, or says that it is missing.
		if _, err := db.writer.ExecContext(ctx, markClosed); err == nil {
			_, _ = db.writer.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)") // another program may keep the log
		}
	}
	err := db.close()
	s.lock.release()
	return err
}

// Epoch implements directory.Store.
func (s *Store) Epoch(ctx context.Context) (string, error) {
	db, err := s.use()
	if err != nil {
		return "", err
	}
	defer s.done(db)
	epoch, err := readEpoch(ctx, db.reader)
	return epoch, s.failed(db, err)
}

// readEpoch returns the epoch of a file, empty if its schema is from before there were epochs.
func readEpoch(ctx context.Context, from querier) (epoch string, err error) {
	var version int
	if err := from.QueryRowContext(ctx, "SELECT user_version FROM pragma_user_version").Scan(&version); err != nil || version < 2 {
		return "", err
	}
	err = from.QueryRowContext(ctx, selectEpoch).Scan(&epoch)
	return epoch, err
}

// Get implements directory.Store.
func (s *Store) Get(ctx context.Context, ids []int32) ([]directory.User, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	db, err := s.use()
	if err != nil {
		return nil, err
	}
	defer s.done(db)
	users, err := db.get(ctx, distinct(ids))
	return users, s.failed(db, err)
}

func (db *database) get(ctx context.Context, ids []int32) ([]directory.User, error) {
	rows, err := db.users.QueryContext(ctx, jsonArray(ids))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	users := make([]directory.User, 0, len(ids))
	for rows.Next() {
		var u directory.User
		if err := rows.Scan(&u.ID, &u.Name, &u.Age, &u.Email); err != nil {
			return nil, err
		}
		users = append(users, u)
	}
	return users, rows.Err()
}

// distinct returns ids without repeats, or ids itself if there are none.
func distinct(ids []int32) []int32 {
	seen := make(map[int32]struct{}, len(ids))
	for _, id := range ids {
		seen[id] = struct{}{}
	}
	if len(seen) == len(ids) {
		return ids
	}
	unique := make([]int32, 0, len(seen))
	for id := range seen {
		unique = append(unique, id)
	}
	return unique
}

func jsonArray(ids []int32) string {
	text := make([]byte, 0, 2+8*len(ids))
	text = append(text, '[')
	for i, id := range ids {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendInt(text, int64(id), 10)
	}
	return string(append(text, ']'))
}

// Revision implements directory.Store. It also checks whether the file was moved away or replaced, or
// changed by another program.
func (s *Store) Revision(ctx context.Context) (revision int64, err error) {
	s.checkFile(ctx)
	db, err := s.use()
	if err != nil {
		return 0, err
	}
	defer s.done(db)
	s.noticeEdits(ctx, db)
	if err := db.revision.QueryRowContext(ctx).Scan(&revision); err != nil {
		return 0, s.failed(db, err)
	}
	return s.reported(db, revision), nil
}

// Count implements directory.Store.
func (s *Store) Count(ctx context.Context) (count int64, err error) {
	db, err := s.use()
	if err != nil {
		return 0, err
	}
	defer s.done(db)
	err = db.reader.QueryRowContext(ctx, countUsers).Scan(&count)
	return count, s.failed(db, err)
}

// Put implements directory.Store.
func (s *Store) Put(ctx context.Context, users []directory.User) (int64, error) {
	// If two users have the same id, only the last one is kept, at its own position.
	last := make(map[int32]int, len(users))
	for i := range users {
		last[users[i].ID] = i
	}
	kept := make([]directory.User, 0, len(last))
	for i := range users {
		if err := validate(&users[i]); err != nil {
			return 0, err
		}
		if last[users[i].ID] == i {
			kept = append(kept, users[i])
		}
	}
	change, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer change.Rollback()
	if _, err := change.Add(ctx, kept); err != nil {
		return 0, err
	}
	return change.Commit(ctx)
}

// Delete implements directory.Store.
func (s *Store) Delete(ctx context.Context, ids []int32) (int64, error) {
	change, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer change.Rollback()
	if _, err := change.tx.ExecContext(ctx, deleteUsers, jsonArray(ids)); err != nil {
		return 0, s.failed(change.db, err)
	}
	return change.Commit(ctx)
}

func validate(u *directory.User) error {
	if err := u.Validate(); err != nil {
		return fmt.Errorf("id %d: %w", u.ID, err)
	}
	return nil
}
