package sqlite

import (
	"context"
	"fmt"
	"math"

	"example.com/roster/directory"
)

// highestID is the highest possible id.
const highestID = math.MaxInt32

// Write implements directory.Store.
func (s *Store) Write(ctx context.Context, change directory.Write) (w directory.Written, err error) {
	ids, err := idsOf(change)
	if err != nil {
		return w, err
	}
	t, err := s.begin(ctx, change.Actor)
	if err != nil {
		return w, err
	}
	defer t.rollback()
	p := plan{transaction: t, top: t.highest, present: make(map[int32]*directory.Record, len(ids))}
	if err := p.load(ctx, ids); err != nil {
		return w, s.failed(t.db, err)
	}
	if err := p.decide(change); err != nil {
		return w, err
	}
	if err := p.apply(ctx); err != nil {
		return w, s.failed(t.db, err)
	}
	if err := p.checkEmails(ctx); err != nil {
		return w, err
	}
	if !change.Check {
		p.written.State, err = t.commit(ctx)
		return p.written, err
	}
	if err := ctx.Err(); err != nil {
		return w, err
	}
	p.written.State = t.before
	for _, users := range [][]directory.Record{p.written.Created, p.written.Updated} {
		for i := range users {
			if users[i].Revision == t.revision {
				users[i].Revision = 0
			}
		}
	}
	return p.written, nil
}

// idsOf returns the ids that a change names.
func idsOf(change directory.Write) ([]int32, error) {
	seen := make(map[int32]struct{})
	ids := make([]int32, 0, len(change.Deletes)+len(change.Updates)+len(change.Creates))
	add := func(part directory.Part, index int, id int32) error {
		if _, ok := seen[id]; ok {
			return &directory.ChangeError{Err: fmt.Errorf("%w: the change names this id twice", directory.ErrInvalid), Part: part, Index: index, ID: id}
		}
		seen[id] = struct{}{}
		ids = append(ids, id)
		return nil
	}
	for i := range change.Deletes {
		if err := add(directory.InDeletes, i, change.Deletes[i].ID); err != nil {
			return nil, err
		}
	}
	for i := range change.Updates {
		if err := add(directory.InUpdates, i, change.Updates[i].User.ID); err != nil {
			return nil, err
		}
	}
	for i := range change.Creates {
		if change.Creates[i].NewID {
			continue
		}
		if err := add(directory.InCreates, i, change.Creates[i].User.ID); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// A plan is what a Write comes to.
type plan struct {
	*transaction
	present map[int32]*directory.Record // of the ids that the Write names
	// top is the highest id that was ever used, with those of the Write.
	top     int64
	deletes []*directory.Record
	puts    []draft
	sources []source // of puts
	written directory.Written
}

// A source is the place of a user in a Write.
type source struct {
	part  directory.Part
	index int
}

func (p *plan) load(ctx context.Context, ids []int32) error {
	rows, err := p.tx.QueryContext(ctx, selectUsers, jsonArray(ids))
	if err != nil {
		return err
	}
	users, err := scanUsers(rows, make([]directory.Record, 0, len(ids)))
	for i := range users {
		p.present[users[i].ID] = &users[i]
	}
	return err
}

// decide finds out what is to be done, or why it cannot be.
func (p *plan) decide(change directory.Write) error {
	for i, d := range change.Deletes {
		user := p.present[d.ID]
		if user == nil {
			if !d.AllowMissing {
				return refuse(directory.ErrNotFound, directory.InDeletes, i, d.ID, nil)
			}
			continue
		}
		if !p.expected(d.If, user) {
			return refuse(directory.ErrChanged, directory.InDeletes, i, d.ID, user)
		}
		p.deletes = append(p.deletes, user)
		p.written.Deleted = append(p.written.Deleted, d.ID)
	}
	for i := range change.Updates {
		if err := p.update(i, &change.Updates[i]); err != nil {
			return err
		}
	}
	for i, c := range change.Creates {
		if user := p.present[c.User.ID]; user != nil && !c.NewID {
			return refuse(directory.ErrExists, directory.InCreates, i, c.User.ID, user)
		}
		if !c.NewID {
			p.top = max(p.top, int64(c.User.ID))
		}
	}
	for i, c := range change.Creates {
		user := c.User
		if c.NewID {
			p.top = max(p.top, 0) + 1
			if p.top > highestID {
				return directory.ErrNoID
			}
			user.ID = int32(p.top)
		}
		if err := user.Validate(); err != nil {
			return refuse(err, directory.InCreates, i, user.ID, nil)
		}
		p.written.Created = append(p.written.Created, p.record(user, moment(p.micros)))
		p.add(draft{user: user}, directory.InCreates, i)
	}
	return nil
}

func (p *plan) update(i int, u *directory.Update) error {
	before := p.present[u.User.ID]
	if before == nil {
		switch {
		case !u.Replace || u.If != directory.Expected{}:
			return refuse(directory.ErrNotFound, directory.InUpdates, i, u.User.ID, nil)
		case u.Fields != directory.AllFields:
			return refuse(fmt.Errorf("%w: a user that is created needs all fields", directory.ErrInvalid), directory.InUpdates, i, u.User.ID, nil)
		}
		if err := u.User.Validate(); err != nil {
			return refuse(err, directory.InUpdates, i, u.User.ID, nil)
		}
		p.top = max(p.top, int64(u.User.ID))
		p.written.Updated = append(p.written.Updated, p.record(u.User, moment(p.micros)))
		p.add(draft{user: u.User}, directory.InUpdates, i)
		return nil
	}
	if !p.expected(u.If, before) {
		return refuse(directory.ErrChanged, directory.InUpdates, i, u.User.ID, before)
	}
	user := before.User
	if u.Fields&directory.NameField != 0 {
		user.Name = u.User.Name
	}
	if u.Fields&directory.AgeField != 0 {
		user.Age = u.User.Age
	}
	if u.Fields&directory.EmailField != 0 {
		user.Email = u.User.Email
	}
	if user == before.User {
		p.written.Updated = append(p.written.Updated, *before)
		return nil
	}
	if err := user.Validate(); err != nil {
		return refuse(err, directory.InUpdates, i, user.ID, nil)
	}
	p.written.Updated = append(p.written.Updated, p.record(user, before.Created))
	p.add(draft{user: user, before: before}, directory.InUpdates, i)
	return nil
}

func (p *plan) add(user draft, part directory.Part, index int) {
	p.puts = append(p.puts, user)
	p.sources = append(p.sources, source{part, index})
}

// expected reports whether a user is in the state that a change expects.
func (p *plan) expected(want directory.Expected, user *directory.Record) bool {
	return want == directory.Expected{} || want.Epoch == p.before.Epoch && want.Revision == user.Revision
}

func refuse(err error, part directory.Part, index int, id int32, present *directory.Record) error {
	return &directory.ChangeError{Err: err, Part: part, Index: index, ID: id, Present: present}
}

// apply writes it. Emails are looked at afterwards.
func (p *plan) apply(ctx context.Context) error {
	for _, user := range p.deletes {
		if _, err := p.tx.ExecContext(ctx, "DELETE FROM users WHERE id = ?", user.ID); err != nil {
			return err
		}
		if _, err := p.tx.ExecContext(ctx, "INSERT INTO changes VALUES (?, ?, ?, '', 0, '', ?, ?, ?)", p.revision, user.ID, directory.Deleted,
			user.Created.UnixMicro(), user.Name, user.Email); err != nil {
			return err
		}
		p.changes++
	}
	return p.put(ctx, p.puts)
}

// checkEmails refuses a user whose email is another one's after the change, unless it was before.
func (p *plan) checkEmails(ctx context.Context) error {
	for i := range p.puts {
		user, before := &p.puts[i].user, p.puts[i].before
		key := directory.FoldKey(user.Email)
		if key == "" || before != nil && directory.FoldKey(before.Email) == key {
			continue
		}
		rows, err := p.tx.QueryContext(ctx, "SELECT "+userColumns+" FROM users AS u WHERE u.email_key = ? AND u.id <> ? ORDER BY u.id LIMIT 1", key, user.ID)
		if err != nil {
			return p.store.failed(p.db, err)
		}
		others, err := scanUsers(rows, nil)
		if err != nil {
			return p.store.failed(p.db, err)
		}
		if len(others) > 0 {
			other := &others[0]
			if other.Revision == p.revision {
				other = p.asBefore(other)
			}
			return refuse(directory.ErrEmailTaken, p.sources[i].part, p.sources[i].index, user.ID, other)
		}
	}
	return nil
}

// asBefore returns a user as the directory has it: what this change made of it is not written. One that it
// creates is as it would be, with the revision 0.
func (p *plan) asBefore(user *directory.Record) *directory.Record {
	if before := p.present[user.ID]; before != nil {
		return before
	}
	user.Revision = 0
	return user
}
