package directory

import (
	"context"
	"errors"
)

// The errors of this package, matched with errors.Is. An error that is none of them, nor the
// context's, is a fault of the program or of the data.
var (
	// ErrInvalid: a user breaks the bounds that User gives. Nothing was written.
	ErrInvalid = errors.New("invalid user")
	// ErrUnavailable: the store does not answer now (gone, locked, out of space); the same call may
	// succeed later. Nothing was written.
	ErrUnavailable = errors.New("store unavailable")
	// ErrDamaged comes with ErrUnavailable: what was asked for is on a part of the store that cannot be
	// read. The rest of the store answers.
	ErrDamaged = errors.New("store damaged")
	// ErrReadOnly: the store can be read but not written. Nothing was written.
	ErrReadOnly = errors.New("store is read-only")
)

// A Store keeps users. Its methods may be called from many goroutines at once.
//
// Consistency: a method sees every change whose method returned before it was called, in this
// process. Changes of other processes show as they commit. Every change is atomic and on disk when
// its method returns without error: no reader ever sees half of it.
//
// Every change raises the revision, a count that all processes on the same data share; by one per
// Put, Delete or Import commit, whatever its size. An equal revision means equal data, as long as the
// epoch is the same.
//
// Errors: the context's own if it ends first, else one of this package, else an error that a caller
// can do nothing about. A method that fails has changed nothing, unless the context ended while it
// committed: then the revision shows whether it has.
//
// Package storetest proves all this of a Store.
type Store interface {
	// Get returns the users that have one of ids, in no particular order, each once however often
	// its id is given. Unknown ids are left out. It is one statement whatever the number of ids,
	// and is never blocked by a writer.
	Get(ctx context.Context, ids []int32) ([]User, error)

	// Put inserts users, or replaces those whose id exists; of two with the same id the last wins.
	// One invalid user refuses them all: ErrInvalid.
	Put(ctx context.Context, users []User) (revision int64, err error)

	// Delete removes the users with these ids; unknown ids are ignored.
	Delete(ctx context.Context, ids []int32) (revision int64, err error)

	// Import begins a change of any size in bounded memory. One import or write runs at a time;
	// another waits for it, up to the store's own limit, and then fails with ErrUnavailable.
	// Readers are not blocked.
	Import(ctx context.Context) (Import, error)

	// Count returns the number of users.
	Count(ctx context.Context) (int64, error)

	// Revision returns the revision as it is on disk now. It is cheap enough to be asked several
	// times a second, and fails when the store is gone: it serves as the health check. If the data
	// of the store was replaced by other data, the store switches to those, and the revision rises. If
	// a program that knows of no revisions changed the data, the revision rises, too.
	Revision(ctx context.Context) (int64, error)

	// Epoch returns the name of the history that the revisions count in, which all processes on the
	// same data share. It is random, and another one once the data were restored from a backup, or
	// replaced. Whoever remembers a revision for longer than one process lives must remember the epoch
	// with it: in another epoch the revision means other data.
	Epoch(ctx context.Context) (string, error)

	// Close waits for running calls and releases the store.
	Close() error
}

// An Import is one atomic change under way. It is used by one goroutine, and ends with Commit or
// Rollback; no reader sees any of it before Commit.
type Import interface {
	// Add inserts users or replaces what the directory had under their id. A user whose id was in
	// this import before is left out, and its index in users is returned. An invalid user is
	// ErrInvalid and ends the import.
	Add(ctx context.Context, users []User) (duplicates []int, err error)

	// RemoveOthers removes the users that this import has not added, and returns how many they are. It
	// comes after the last Add; Rollback undoes it.
	RemoveOthers(ctx context.Context) (removed int64, err error)

	// Commit makes the import visible, all at once.
	Commit(ctx context.Context) (revision int64, err error)

	// Rollback drops the import; after Commit it does nothing.
	Rollback() error
}
