package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"sync"
	"time"

	"example.com/roster/directory"
)

// The statements of a Store. Ids are passed as one JSON array, so that one prepared statement
// serves batches of any size.
const (
	userColumns = `u.id, u.name, u.age, u.email, u.created, u.updated, u.revision`
	selectUsers = `SELECT ` + userColumns + `
		FROM json_each(?) AS asked CROSS JOIN users AS u ON u.id = asked.value`
	// selectUsersAndState has one more row for the state, in columns of the same types: what one statement
	// reads is of one state.
	selectUsersAndState = `SELECT 4294967296, epoch, 0, '', oldest, 0, revision FROM directory WHERE one = 1 UNION ALL ` + selectUsers
	stateID             = 1 << 32 // no user can have it
	selectState         = `SELECT epoch, revision, oldest FROM directory WHERE one = 1`
	// Not of an index, so that damage to the table shows at start.
	countUsers  = `SELECT count(*) FROM users NOT INDEXED`
	selectEpoch = `SELECT epoch FROM directory WHERE one = 1`

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
	path       string
	lock       *storeLock
	warn       func(string)
	history    History
	exportTime time.Duration
	places     places

	// checking is held while a call checks whether the path still names the open file, and opens
	// another.
	checking sync.Mutex

	mu          sync.Mutex // guards the fields below and those of database that say so
	db          *database  // the open one
	unavailable error      // why db must not be used now
	closed      bool
	ownEpochs   int // how many epochs this process had for itself
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
func (s *Store) Get(ctx context.Context, ids []int32) (users []directory.Record, state directory.State, err error) {
	db, err := s.use()
	if err != nil {
		return nil, state, err
	}
	defer s.done(db)
	users, state, err = db.get(ctx, distinct(ids))
	if err != nil {
		return nil, directory.State{}, s.failed(db, err)
	}
	state.Epoch = s.epoch(db, state.Epoch)
	return users, state, nil
}

// get reads users, and the state in the same statement; the epoch is that of the file.
func (db *database) get(ctx context.Context, ids []int32) (users []directory.Record, state directory.State, err error) {
	rows, err := db.users.QueryContext(ctx, jsonArray(ids))
	if err != nil {
		return nil, state, err
	}
	defer rows.Close()
	users = make([]directory.Record, 0, len(ids))
	for rows.Next() {
		var u directory.Record
		var id, created, updated int64
		if err := rows.Scan(&id, &u.Name, &u.Age, &u.Email, &created, &updated, &u.Revision); err != nil {
			return nil, state, err
		}
		if id == stateID {
			state = directory.State{Epoch: u.Name, Revision: u.Revision, Oldest: created}
			continue
		}
		u.ID, u.Created, u.Updated = int32(id), moment(created), moment(updated)
		users = append(users, u)
	}
	return users, state, rows.Err()
}

// scanUsers appends the users of rows, which it closes.
func scanUsers(rows *sql.Rows, users []directory.Record) ([]directory.Record, error) {
	defer rows.Close()
	for rows.Next() {
		var u directory.Record
		if err := scanUser(rows, &u); err != nil {
			return nil, err
		}
		users = append(users, u)
	}
	return users, rows.Err()
}

func scanUser(rows *sql.Rows, u *directory.Record) error {
	var created, updated int64
	err := rows.Scan(&u.ID, &u.Name, &u.Age, &u.Email, &created, &updated, &u.Revision)
	u.Created, u.Updated = moment(created), moment(updated)
	return err
}

// moment returns the time of so many microseconds since 1970.
func moment(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

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

// State implements directory.Store. It also checks whether the file was moved away or replaced, or
// changed by another program.
func (s *Store) State(ctx context.Context) (state directory.State, err error) {
	s.checkFile(ctx)
	db, err := s.use()
	if err != nil {
		return state, err
	}
	defer s.done(db)
	s.noticeEdits(ctx, db)
	state, err = s.scanState(db, db.state.QueryRowContext(ctx))
	return state, s.failed(db, err)
}

func (s *Store) readState(ctx context.Context, db *database, from querier) (directory.State, error) {
	return s.scanState(db, from.QueryRowContext(ctx, selectState))
}

func (s *Store) scanState(db *database, row *sql.Row) (state directory.State, err error) {
	if err := row.Scan(&state.Epoch, &state.Revision, &state.Oldest); err != nil {
		return directory.State{}, err
	}
	state.Epoch = s.epoch(db, state.Epoch)
	return state, nil
}

// reading runs do in one transaction that reads, so that all it reads is of one state.
func (s *Store) reading(ctx context.Context, pick func(*database) *sql.DB, do func(db *database, tx *sql.Tx, state directory.State) error) error {
	db, err := s.use()
	if err != nil {
		return err
	}
	defer s.done(db)
	tx, err := pick(db).BeginTx(ctx, nil)
	if err != nil {
		return s.failed(db, err)
	}
	defer tx.Rollback()
	state, err := s.readState(ctx, db, tx)
	if err == nil {
		err = do(db, tx, state)
	}
	if ctx.Err() != nil {
		err = ctx.Err() // the context also ends the transaction, and either may be reported
	}
	return err
}

func reader(db *database) *sql.DB { return db.reader }

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

func validate(u *directory.User) error {
	if err := u.Validate(); err != nil {
		return fmt.Errorf("id %d: %w", u.ID, err)
	}
	return nil
}
