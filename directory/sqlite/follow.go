package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"example.com/roster/directory"
)

// replacedGap is what the revision rises by when another file has taken the place of the one
// before: more than writes to that one can be under way.
const replacedGap = 1 << 20

// use returns the database to run a call on; done ends it.
func (s *Store) use() (*database, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, fmt.Errorf("%w: %s is closed", directory.ErrUnavailable, s.path)
	case s.gone != nil:
		return nil, s.gone
	}
	s.db.running++
	return s.db, nil
}

func (s *Store) done(db *database) {
	s.mu.Lock()
	db.running--
	last := db.retired && db.running == 0
	s.mu.Unlock()
	if last {
		db.close()
	}
}

// told is the revision that a caller is told for one that is in db.
func (s *Store) told(db *database, revision int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	revision += db.base
	s.newest = max(s.newest, revision)
	return revision
}

// failed describes an error of db to a caller, and notes if it shows that the file is damaged.
func (s *Store) failed(db *database, err error) error {
	if !isDamaged(err) {
		return describe(s.path, err)
	}
	s.mu.Lock()
	db.damaged = true
	s.mu.Unlock()
	return fmt.Errorf("%w: %w", directory.ErrUnavailable, describe(s.path, err))
}

// stillThere fails if the path does not name db's file any more.
func (s *Store) stillThere(db *database) error {
	info, err := os.Stat(s.path)
	if err == nil && os.SameFile(info, db.file) {
		return nil
	}
	return s.away(err)
}

func (s *Store) away(err error) error {
	if err == nil {
		return fmt.Errorf("%w: another file has taken the place of %s", directory.ErrUnavailable, s.path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is gone: put it back, or another in its place", directory.ErrUnavailable, s.path)
	}
	return fmt.Errorf("%w: %w", directory.ErrUnavailable, err)
}

// look looks whether the path still names the file that is open. If it names another that can be
// served, it opens that one. SQLite would go on with the open one, wherever it was moved, and
// nobody would know.
func (s *Store) look(ctx context.Context) {
	if !s.checking.TryLock() {
		return // somebody is looking
	}
	defer s.checking.Unlock()
	s.mu.Lock()
	db, damaged := s.db, s.db.damaged
	s.mu.Unlock()
	info, err := os.Stat(s.path)
	switch {
	case err != nil:
		s.setGone(s.away(err))
	case os.SameFile(info, db.file) && !db.logTaken && !damaged:
		db.noteLog()
		s.setGone(nil)
	default:
		if err := s.reopen(ctx, db, damaged && os.SameFile(info, db.file)); err != nil {
			s.setGone(fmt.Errorf("%w: %s is not the file that was opened, and cannot be served: %w", directory.ErrUnavailable, s.path, err))
		}
	}
}

func (s *Store) setGone(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = err
}

// reopen opens what is at the path now, which must be a store of ours, and retires old. same tells
// that it is the same file, and was damaged.
func (s *Store) reopen(ctx context.Context, old *database, same bool) error {
	if err := checkPath(s.path); err != nil {
		return err
	}
	if !same {
		if err := old.takeLog(ctx); err != nil {
			return err
		}
	}
	db, err := openDatabase(ctx, s.path, false)
	if err != nil {
		return err
	}
	if err := s.accept(ctx, db, old, same); err != nil {
		db.close()
		return err
	}
	return nil
}

// accept makes db what the Store answers from.
func (s *Store) accept(ctx context.Context, db, old *database, same bool) error {
	if same {
		// What is still damaged would only be found again.
		var found string
		if err := db.reader.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&found); err != nil {
			return describe(s.path, err)
		}
		if found != "ok" {
			return fmt.Errorf("it is damaged: restore it from a backup: %s", found)
		}
	}
	var revision int64
	if err := db.revision.QueryRowContext(ctx).Scan(&revision); err != nil {
		return describe(s.path, err)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errors.New("the store is closed")
	}
	db.base = s.newest + replacedGap - revision
	s.newest += replacedGap
	s.db, s.gone = db, nil
	old.retired = true
	idle := old.running == 0
	s.mu.Unlock()
	if idle {
		old.close()
	}
	return nil
}
