package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"sync"
	"time"

	"example.com/roster/directory"
)

const (
	defaultAge     = 7 * 24 * time.Hour
	defaultChanges = 1_000_000
)

// places remembers where readers of the history have come to within a revision: which id is at which place.
// A revision may have a million changes, and each reader would else count its way to its place again.
type places struct {
	mu  sync.Mutex
	ids map[directory.Cursor]int64 // the id of the change before the place
}

// maxPlaces bounds the memory of places.
const maxPlaces = 4096

func (p *places) get(at directory.Cursor) (id int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, ok = p.ids[at]
	return id, ok
}

func (p *places) put(at directory.Cursor, id int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ids == nil || len(p.ids) >= maxPlaces {
		p.ids = make(map[directory.Cursor]int64)
	}
	p.ids[at] = id
}

// Changes implements directory.Store.
func (s *Store) Changes(ctx context.Context, from directory.Cursor, limit int) (changes []directory.Change, state directory.State, err error) {
	if limit < 1 || from.Skip < 0 {
		return nil, state, errors.New("changes: the limit must be at least 1, and nothing less than 0 can be skipped")
	}
	err = s.reading(ctx, reader, func(db *database, tx *sql.Tx, now directory.State) error {
		state = now
		next := from.Revision
		if from.Skip > 0 {
			next++ // it must be there
		}
		if from.Epoch != "" && from.Epoch != state.Epoch || from.Revision < state.Oldest || next > state.Revision {
			return &directory.HistoryError{State: state, Asked: from}
		}
		changes, err = s.changes(ctx, tx, state.Epoch, from, limit)
		return err
	})
	if err != nil {
		return nil, state, s.failedReading(err)
	}
	return changes, state, nil
}

func (s *Store) changes(ctx context.Context, tx *sql.Tx, epoch string, from directory.Cursor, limit int) (changes []directory.Change, err error) {
	// All changes of revision after whose id is greater than id, and those of later revisions.
	id := int64(math.MinInt64)
	index := from.Skip
	if from.Skip > 0 {
		at := directory.Cursor{Epoch: epoch, Revision: from.Revision, Skip: from.Skip}
		known := false
		if id, known = s.places.get(at); !known {
			err := tx.QueryRowContext(ctx, "SELECT id FROM changes WHERE revision = ? ORDER BY id LIMIT 1 OFFSET ?", from.Revision+1, from.Skip-1).Scan(&id)
			if errors.Is(err, sql.ErrNoRows) {
				id, err = math.MaxInt64, nil // it has no more than was skipped
			}
			if err != nil {
				return nil, err
			}
		}
	}
	rows, err := tx.QueryContext(ctx, `SELECT c.revision, c.id, c.kind, c.name, c.age, c.email, c.created,
			coalesce(c.name_before, c.name), coalesce(c.email_before, c.email), r.time, r.actor, r.total - p.total
		FROM changes AS c JOIN revisions AS r ON r.revision = c.revision JOIN revisions AS p ON p.revision = c.revision - 1
		WHERE (c.revision, c.id) > (?, ?) ORDER BY c.revision, c.id LIMIT ?`, from.Revision+1, id, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	revision := from.Revision + 1
	for rows.Next() {
		var c directory.Change
		var created, micros int64
		var count int
		u := &c.User
		if err := rows.Scan(&c.Revision, &u.ID, &c.Kind, &u.Name, &u.Age, &u.Email, &created,
			&c.Before.Name, &c.Before.Email, &micros, &c.Actor, &count); err != nil {
			return nil, err
		}
		if c.Revision != revision {
			revision, index = c.Revision, 0
		}
		c.Time = moment(micros)
		c.Index, c.Last = index, index == count-1
		index++
		switch c.Kind {
		case directory.Created:
			c.Before.Name, c.Before.Email = "", ""
			fallthrough
		case directory.Updated:
			u.Created, u.Updated, u.Revision = moment(created), c.Time, c.Revision
		case directory.Deleted:
			c.User = directory.Record{User: directory.User{ID: u.ID}}
		}
		changes = append(changes, c)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if n := len(changes); n > 0 && !changes[n-1].Last {
		last := &changes[n-1]
		s.places.put(directory.Cursor{Epoch: epoch, Revision: last.Revision - 1, Skip: last.Index + 1}, int64(last.User.ID))
	}
	return changes, nil
}

// failedReading describes an error of a call that only reads.
func (s *Store) failedReading(err error) error {
	if err == nil || errors.Is(err, directory.ErrHistory) || errors.Is(err, directory.ErrUnavailable) {
		return err
	}
	s.mu.Lock()
	db := s.db
	s.mu.Unlock()
	return s.failed(db, err)
}
