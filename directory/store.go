package directory

import (
	"context"
	"errors"
	"time"
)

// The errors of this package, matched with errors.Is. An error that is none of them, nor the
// context's, is a fault of the program or of the data.
var (
	// ErrInvalid: a user, or a change as a whole, breaks the rules of this package. Nothing was written.
	ErrInvalid = errors.New("invalid user")
	// ErrUnavailable: the store does not answer now (gone, locked, out of space); the same call may
	// succeed later. Nothing was written.
	ErrUnavailable = errors.New("store unavailable")
	// ErrDamaged comes with ErrUnavailable: what was asked for is on a part of the store that cannot be
	// read. The rest of the store answers.
	ErrDamaged = errors.New("store damaged")
	// ErrFull comes with ErrUnavailable: no space is left for a write. Reads are answered.
	ErrFull = errors.New("store full")
	// ErrReadOnly: the store can be read but not written. Nothing was written.
	ErrReadOnly = errors.New("store is read-only")
	// ErrNotFound: a change names a user whom the directory does not have. Nothing was written. It
	// comes as a *ChangeError.
	ErrNotFound = errors.New("no such user")
	// ErrExists: a change creates a user under an id that is taken. Nothing was written. It comes as a
	// *ChangeError.
	ErrExists = errors.New("the id is taken")
	// ErrEmailTaken: after the change two users would have the same email, without regard to case.
	// Nothing was written. It comes as a *ChangeError.
	ErrEmailTaken = errors.New("the email is taken")
	// ErrChanged: a user is no longer in the state that the change expects. Nothing was written. It
	// comes as a *ChangeError with the present state.
	ErrChanged = errors.New("the user has changed")
	// ErrNoID: a change asks for a new id, and the highest possible one, 2147483647, has been used.
	// Nothing was written.
	ErrNoID = errors.New("no id is left")
	// ErrHistory: what a reader asks for is not in the history that the store keeps. It comes as a
	// *HistoryError.
	ErrHistory = errors.New("not in the history")
	// ErrOverdue: a reader took so long that the store no longer keeps the state that it reads.
	ErrOverdue = errors.New("the reader is too slow")
)

// A ChangeError says which user of a change is at fault.
type ChangeError struct {
	// Err is ErrNotFound, ErrExists, ErrEmailTaken, ErrChanged or ErrInvalid, or wraps it.
	Err error
	// Index is that of the user within Write.Creates, Write.Updates or Write.Deletes, as Part says.
	Part  Part
	Index int
	// ID is that of the user at fault.
	ID int32
	// Present is the user as the directory has it: the one at fault for ErrExists and ErrChanged, the
	// one that has the email for ErrEmailTaken; nil if there is none.
	Present *Record
}

// A Part is one of the lists of a Write.
type Part uint8

// The parts of a Write, in the order in which they are applied.
const (
	InDeletes Part = iota
	InUpdates
	InCreates
)

// A State is where the history of a store has come to.
type State struct {
	// Epoch is the name of the history that the revisions count in. All processes on the same data share
	// it. It is random, and another one once the data were restored from a backup or replaced by others.
	// A revision that outlives the process has to be kept with its epoch: in another epoch it means other
	// data.
	Epoch string
	// Revision is that of the last change, 0 before the first one.
	Revision int64
	// Oldest is the lowest revision that Changes can go on from: the changes after it are all there.
	Oldest int64
}

// A Record is a user as a store has it.
type Record struct {
	User
	// Created and Updated are when the user was created and last changed, in UTC, to the microsecond,
	// by the clock of the process that did it. They never fall from one revision to the next, whatever that
	// clock does. In a store from before there were times both are those of the migration.
	Created, Updated time.Time
	// Revision is that of the last change of this user.
	Revision int64
}

// A Store keeps users, and a history of their changes. Its methods may be called from many goroutines at
// once.
//
// Consistency: a method sees every change whose method returned before it was called, in this
// process. Changes of other processes show as they commit. Every change is atomic and on disk when
// its method returns without error: no reader ever sees half of it.
//
// Every change, whatever its size, raises the revision by exactly one, in its own transaction: so
// revisions are dense, and in the order of commits. An equal revision means equal data, as long as the
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
	// and is never blocked by a writer. The state is the one that the users were read at.
	Get(ctx context.Context, ids []int32) ([]Record, State, error)

	// List returns one page of users. It reads no more than the page, except for a total.
	List(ctx context.Context, query Query) (Page, error)

	// Write applies one change. It refuses the change as a whole with a *ChangeError, ErrNoID, or
	// ErrInvalid for one that names a user twice.
	Write(ctx context.Context, change Write) (Written, error)

	// Import begins a change of any size in bounded memory. One import or write runs at a time;
	// another waits for it, up to the store's own limit, and then fails with ErrUnavailable.
	// Readers are not blocked. Actor is who makes the change.
	Import(ctx context.Context, actor string) (Import, error)

	// Count returns the number of users.
	Count(ctx context.Context) (int64, error)

	// State returns where the history is now, as on disk. It is cheap enough to be asked several times
	// a second, and fails when the store is gone: it serves as the health check. If the data of the store
	// was replaced by other data, the store switches to those, and the epoch is theirs. If a program
	// that does not record its changes changed the data, the store makes that one more revision, and
	// Oldest is that revision: nobody can tell what was changed.
	State(ctx context.Context) (State, error)

	// Changes returns what was changed after a revision, in order, limit changes at most, and the state
	// that they were read at. A revision may be cut off in its middle: From and Skip say where to go on.
	// If the epoch of from is set and not the present one, it fails with a *HistoryError; it fails so, too,
	// for a revision before State.Oldest or after State.Revision. Fewer changes than limit are all that there
	// are, up to the state.
	Changes(ctx context.Context, from Cursor, limit int) ([]Change, State, error)

	// Export calls each with all users that match the filter, in the order of their ids, some hundreds at
	// a time, all as of one revision, whose state each is told and Export returns. It takes no longer than the store's own limit, so
	// that it does not keep the store from tidying up: then it fails with ErrOverdue. The users must not be
	// kept after each returned.
	Export(ctx context.Context, filter Filter, each func(State, []Record) error) (State, error)

	// Compact drops the changes that the store no longer has to keep, and with them the names and emails
	// of users that are gone. Whole revisions go, the oldest first, in steps that hold no writer up for
	// long; Oldest rises. It is called from time to time, also in a store without writes.
	Compact(ctx context.Context) error

	// Close waits for running calls and releases the store.
	Close() error
}

// A Query asks for one page of the users that match Filter.
type Query struct {
	Filter Filter
	// ByName orders by FoldKey of the name and then by id, else users are in the order of their ids.
	// Descending turns the order round.
	ByName, Descending bool
	// After is the last user of the page before, nil for the first page. Only what the order looks at
	// counts: the id, and FoldKey of the name if ByName is set.
	After *PageKey
	// Limit is the most users that the page has, at least 1.
	Limit int
	// Total asks for the number of all users that match Filter.
	Total bool
}

// A PageKey is the place of a user in the order of a Query.
type PageKey struct {
	NameKey string
	ID      int32
}

// A Filter selects users. Its zero value selects all. Prefixes are FoldKeys, so they are compared
// without regard to case; a user must match both.
type Filter struct {
	NamePrefix, EmailPrefix string
	// NameIs and EmailIs ask for the whole name or email instead of its beginning.
	NameIs, EmailIs bool
}

// A Page is the answer to a Query.
type Page struct {
	Users []Record
	// More says that there are users after the last of these.
	More bool
	// Total is the number of users that match the filter, if it was asked for.
	Total int64
	// State is where the history was when the page was read: Changes can go on from it.
	State State
}

// A Write is one change: first the deletes are applied, then the updates, then the creates. No id may
// be in it twice. Emails are compared when all is applied, so that two users can swap theirs.
type Write struct {
	Creates []Create
	Updates []Update
	Deletes []Delete
	// Actor is who makes the change: a name that a token, a certificate or a program gives.
	Actor string
	// Check says that nothing is to be written: the answer is what it would be, the state the present
	// one, and the users that would be changed have the revision 0.
	Check bool
}

// A Create adds one user. NewID asks for an id that no user has had before: one more than the highest
// that was ever used, at least 1. The other ids of the same Write count as used.
type Create struct {
	User  User
	NewID bool
}

// An Update replaces the fields of a user that are in Fields.
type Update struct {
	User   User
	Fields Fields
	If     Expected
	// Replace creates the user if there is none, and then needs all fields.
	Replace bool
}

// Fields are fields of a User besides the id.
type Fields uint8

// The fields of a user.
const (
	NameField Fields = 1 << iota
	AgeField
	EmailField
	AllFields = NameField | AgeField | EmailField
)

// A Delete removes one user. With AllowMissing it is no error if there is none.
type Delete struct {
	ID           int32
	If           Expected
	AllowMissing bool
}

// Expected is the state that a user must be in: of this revision, in this epoch. The zero value accepts
// any.
type Expected struct {
	Epoch    string
	Revision int64
}

// Written is what a Write has done.
type Written struct {
	State State
	// Created and Updated are the users as they are now, in the order of the Write. An update that
	// changes nothing leaves its user's revision as it is.
	Created, Updated []Record
	// Deleted are the ids of the users that are gone: those that were there.
	Deleted []int32
}

// A Cursor is a place in the history: after Skip changes of the revision that follows Revision.
type Cursor struct {
	// Epoch is that of the history, empty for whichever there is.
	Epoch    string
	Revision int64
	Skip     int
}

// A Change is what one revision has done to one user. Of a revision that touches several users, they are
// in the order of their ids. A revision that left all users as they were has no changes.
type Change struct {
	Revision int64
	Time     time.Time
	Actor    string
	Kind     Kind
	// User is the user after the change; of one that was deleted only the id is set.
	User Record
	// Before has the name and the email before the change, empty for one that was created.
	Before struct{ Name, Email string }
	// Index is that of the change within its revision; Last is set for the last one.
	Index int
	Last  bool

	shared *encodings // of a change that watches share
}

// A Kind is what happened to a user.
type Kind uint8

// The kinds of changes.
const (
	Created Kind = 1 + iota
	Updated
	Deleted
)

// A HistoryError says why the history cannot be read from a revision.
type HistoryError struct {
	// State is that of the store.
	State State
	// Asked is what was asked for.
	Asked Cursor
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

	// EmailsTaken returns the users of this import that would share an email with another user, each with
	// that user, at most limit of them. Of users that all had their email from this import, the one with the
	// lowest id keeps it. It comes after the last Add and RemoveOthers. As long as there is one, Commit fails
	// with ErrEmailTaken.
	EmailsTaken(ctx context.Context, limit int) ([]ChangeError, error)

	// Undo takes users of this import out of it again: they are as they were before.
	Undo(ctx context.Context, ids []int32) error

	// Commit makes the import visible, all at once.
	Commit(ctx context.Context) (ImportDone, error)

	// Rollback drops the import; after Commit it does nothing.
	Rollback() error
}

// ImportDone is what an import has done. Unchanged users were in it as the directory had them.
type ImportDone struct {
	State                                State
	Created, Updated, Unchanged, Removed int64
}
