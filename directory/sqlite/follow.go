package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"example.com/roster/directory"
)

// use returns the database for a call, which must call done at its end.
func (s *Store) use() (*database, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, fmt.Errorf("%w: %s is closed", directory.ErrUnavailable, s.path)
	case s.unavailable != nil:
		return nil, s.unavailable
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

// failed describes an error of db for the caller, and records whether it says that a page is damaged.
// Calls that do not need that page go on.
func (s *Store) failed(db *database, err error) error {
	if !isDamaged(err) {
		return describe(s.path, err)
	}
	if info, statErr := os.Stat(s.path); statErr == nil {
		s.mu.Lock()
		db.damage = info
		s.mu.Unlock()
	}
	return fmt.Errorf("%w: %w: %w", directory.ErrUnavailable, directory.ErrDamaged, describe(s.path, err))
}

// checkInPlace fails if the path no longer names db's file.
func (s *Store) checkInPlace(db *database) error {
	info, err := os.Stat(s.path)
	if err == nil && os.SameFile(info, db.file) {
		return nil
	}
	return s.notInPlace(err)
}

// notInPlace is the error for a path that names another file, or none (err of os.Stat).
func (s *Store) notInPlace(err error) error {
	if err == nil {
		return fmt.Errorf("%w: another file has taken the place of %s", directory.ErrUnavailable, s.path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is gone: put it back, or another in its place", directory.ErrUnavailable, s.path)
	}
	return fmt.Errorf("%w: %w", directory.ErrUnavailable, err)
}

// checkFile checks whether the path still names the file that is open. If the path names another
// file that can be served, it opens that one. SQLite by itself would continue with the open file,
// wherever it was moved, without an error.
func (s *Store) checkFile(ctx context.Context) {
	if !s.checking.TryLock() {
		return // another call is checking
	}
	defer s.checking.Unlock()
	s.mu.Lock()
	db, damage := s.db, s.db.damage
	s.mu.Unlock()
	info, err := os.Stat(s.path)
	switch {
	case err != nil:
		s.setUnavailable(s.notInPlace(err))
	case os.SameFile(info, db.file) && !db.logRemoved && (damage == nil || unchanged(info, damage)):
		db.recordLog()
		s.setUnavailable(nil)
	default:
		if err := s.reopen(ctx, db, damage != nil && os.SameFile(info, db.file)); err != nil {
			s.setUnavailable(fmt.Errorf("%w: %s is not the file that was opened, and cannot be served: %w", directory.ErrUnavailable, s.path, err))
		}
	}
}

// unchanged reports whether a damaged file is still as it was. If it is not, somebody may have mended
// it, which only new connections would see.
func unchanged(info, before os.FileInfo) bool {
	return info.Size() == before.Size() && info.ModTime().Equal(before.ModTime())
}

func (s *Store) setUnavailable(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unavailable = err
}

// reopen opens the file that is at the path now, which must be a Roster store, and retires old.
// same says that it is the same file, which was damaged and has been changed.
func (s *Store) reopen(ctx context.Context, old *database, same bool) error {
	if err := checkPath(s.path); err != nil {
		return err
	}
	if !same {
		if err := old.removeLog(ctx); err != nil {
			return err
		}
	}
	_, err := os.Stat(followLinks(s.path) + "-wal")
	logMissing := errors.Is(err, fs.ErrNotExist)
	db, err := openDatabase(ctx, s.path)
	if err != nil {
		return err
	}
	if !same && logMissing {
		if err := checkComplete(ctx, s.path, s.warn); err != nil {
			db.close()
			return err
		}
	}
	if err := s.switchTo(ctx, db, old); err != nil {
		db.close()
		return err
	}
	return nil
}

// beginHistory gives the file an epoch of its own if it has that of the file before, unless another
// process has done so already. Otherwise a caller who remembers a revision of the file before would take
// it for one of this file.
func (db *database) beginHistory(ctx context.Context, epochBefore string) error {
	_, err := db.writer.ExecContext(ctx, `UPDATE directory SET epoch = lower(hex(randomblob(16))), `+setMark+`
		WHERE one = 1 AND epoch IN (?, '')`, epochBefore)
	if err != nil {
		return err
	}
	db.fileEpoch, err = readEpoch(ctx, db.watcher)
	return err
}

// switchTo makes db the database that the Store uses. A file that was damaged and mended has another
// epoch, too: nobody knows what was mended.
func (s *Store) switchTo(ctx context.Context, db, old *database) error {
	if !db.readOnly {
		if err := db.beginHistory(ctx, old.fileEpoch); err != nil {
			return describe(s.path, err)
		}
	}
	if db.readOnly && db.fileEpoch == old.fileEpoch {
		s.beginOwnEpoch(db)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errors.New("the store is closed")
	}
	s.db, s.unavailable = db, nil
	old.retired = true
	idle := old.running == 0
	s.mu.Unlock()
	if idle {
		old.close()
	}
	return nil
}
