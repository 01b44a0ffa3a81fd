package client

import (
	"fmt"
	"time"

	rosterv1 "example.com/roster/gen/go/roster/v1"
)

// A Record is a user of the directory, with its id and what the server knows besides. To create or to
// change one only ID, Name, Age, Email and ETag count.
type Record struct {
	ID    int32  `json:"id"`
	Name  string `json:"name"`
	Age   int32  `json:"age"` // in years
	Email string `json:"email"`
	// CreateTime and UpdateTime are when it was created and last changed, by the server's clock.
	CreateTime time.Time `json:"createTime,omitzero"`
	UpdateTime time.Time `json:"updateTime,omitzero"`
	// ETag changes with every change of the user. A write that has it succeeds only if nobody changed
	// the user meanwhile.
	ETag string `json:"etag,omitempty"`
	// Revision is that of the user's last change.
	Revision int64 `json:"revision,omitempty"`
}

// A Position is a place in the history of the directory. A revision means something only within its
// epoch: keep both.
type Position struct {
	Revision int64  `json:"revision"`
	Epoch    string `json:"epoch"`
}

// A Kind is what happened to a user.
type Kind int

// The kinds of changes.
const (
	// Existing: the user is there, at the beginning of a watch from the beginning.
	Existing Kind = Kind(rosterv1.Change_KIND_EXISTING)
	Created  Kind = Kind(rosterv1.Change_KIND_CREATED)
	Updated  Kind = Kind(rosterv1.Change_KIND_UPDATED)
	Deleted  Kind = Kind(rosterv1.Change_KIND_DELETED)
	// Left: the user matched the filter and no longer does.
	Left Kind = Kind(rosterv1.Change_KIND_LEFT)
)

// String returns the kind in lower case, such as "created".
func (k Kind) String() string {
	switch k {
	case Existing:
		return "existing"
	case Created:
		return "created"
	case Updated:
		return "updated"
	case Deleted:
		return "deleted"
	case Left:
		return "left"
	default:
		return fmt.Sprintf("Kind(%d)", int(k))
	}
}

// MarshalText implements encoding.TextMarshaler.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// A Change is what one revision did to one user.
type Change struct {
	Kind Kind  `json:"kind"`
	ID   int32 `json:"id"`
	// User is the user after the change, nil if it was deleted or left.
	User     *Record `json:"user,omitempty"`
	Revision int64   `json:"revision"`
	// Actor is who made the change, and Time when; of ListChanges only.
	Actor string    `json:"actor,omitempty"`
	Time  time.Time `json:"time,omitzero"`
}

// A Page is one page of users.
type Page struct {
	Users []Record
	// NextToken is for the next page, empty on the last one.
	NextToken string
	// Total is the number of all users that match, if it was asked for.
	Total int64
	// Position is that of the first page: a Watch from it tells of all that the pages lack.
	Position Position
}

// Imported says what an import has done. Imported is Created + Updated + Unchanged.
type Imported struct {
	Imported, Created, Updated, Unchanged, Removed int64
	// Refused is how many users were not taken, and RefusedRows the first hundred of them.
	Refused     int64
	RefusedRows []RefusedRow
	Position    Position
}

// A RefusedRow is a user that an import did not take. Row counts from 1.
type RefusedRow struct {
	Row    int64
	ID     int32
	Reason string
}

func recordOf(u *rosterv1.User) Record {
	r := Record{ID: u.GetId(), Name: u.GetName(), Age: u.GetAge(), Email: u.GetEmail(), ETag: u.GetEtag(), Revision: u.GetRevision()}
	if u.GetCreateTime() != nil {
		r.CreateTime = u.GetCreateTime().AsTime()
	}
	if u.GetUpdateTime() != nil {
		r.UpdateTime = u.GetUpdateTime().AsTime()
	}
	return r
}

func recordsOf(users []*rosterv1.User) []Record {
	records := make([]Record, len(users))
	for i, u := range users {
		records[i] = recordOf(u)
	}
	return records
}

// message returns the user as it is sent, without what only servers set.
func (r Record) message() *rosterv1.User {
	return &rosterv1.User{Id: r.ID, Name: r.Name, Age: r.Age, Email: r.Email, Etag: r.ETag}
}

func changeOf(c *rosterv1.Change) Change {
	change := Change{Kind: Kind(c.GetKind()), ID: c.GetId(), Revision: c.GetRevision(), Actor: c.GetActor()}
	if c.GetUser() != nil {
		user := recordOf(c.GetUser())
		change.User = &user
	}
	if c.GetTime() != nil {
		change.Time = c.GetTime().AsTime()
	}
	return change
}
