package directory

import (
	"context"
	"fmt"
	"slices"
)

// Write is Store.Write of the users as [Normalize] returns them. Every look-up that begins after it
// returned sees the change.
func (d *Directory) Write(ctx context.Context, change Write) (Written, error) {
	if err := d.Status().Err; err != nil {
		return Written{}, err
	}
	var err error
	change.Creates = slices.Clone(change.Creates)
	for i := range change.Creates {
		u := &change.Creates[i].User
		if *u, err = Normalize(*u); err != nil {
			return Written{}, &ChangeError{Err: err, Part: InCreates, Index: i, ID: u.ID}
		}
	}
	change.Updates = slices.Clone(change.Updates)
	for i := range change.Updates {
		u := &change.Updates[i]
		if u.User, err = normalizeFields(u.User, u.Fields); err != nil {
			return Written{}, &ChangeError{Err: err, Part: InUpdates, Index: i, ID: u.User.ID}
		}
	}
	written, err := d.store.Write(ctx, change)
	if change.Check {
		return written, err
	}
	var ids []int32
	for i := range change.Creates {
		if !change.Creates[i].NewID {
			ids = append(ids, change.Creates[i].User.ID)
		}
	}
	for i := range change.Updates {
		ids = append(ids, change.Updates[i].User.ID)
	}
	for i := range change.Deletes {
		ids = append(ids, change.Deletes[i].ID)
	}
	for i := range written.Created {
		ids = append(ids, written.Created[i].ID) // those that the store has chosen
	}
	d.wrote(ids, false, written.State, err)
	return written, err
}

// normalizeFields is Normalize of those fields of u that are in fields; the others are left as they are.
func normalizeFields(u User, fields Fields) (User, error) {
	checked := User{ID: u.ID, Name: "-"} // a user that is valid whatever is set
	if fields&NameField != 0 {
		checked.Name = u.Name
	}
	if fields&AgeField != 0 {
		checked.Age = u.Age
	}
	if fields&EmailField != 0 {
		checked.Email = u.Email
	}
	checked, err := Normalize(checked)
	if fields&NameField != 0 {
		u.Name = checked.Name
	}
	if fields&EmailField != 0 {
		u.Email = checked.Email
	}
	return u, err
}

// wrote removes from the cache what a write through this Directory has changed: ids, or all.
func (d *Directory) wrote(ids []int32, all bool, state State, err error) {
	d.mu.Lock()
	if all {
		d.dropAll()
	} else {
		d.drop(ids)
	}
	seen := d.seen.Load()
	missed := err != nil // the write may have been committed in spite of the error
	if err == nil && (state.Epoch != seen.Epoch || state.Revision > seen.Revision+1) {
		missed = true // others have written, too: follow sees what
	} else if err == nil && state.Revision > seen.Revision {
		d.advance(&state)
	}
	d.mu.Unlock()
	if missed {
		d.nudge()
	}
	if err == nil {
		d.counts.writes.Add(1)
		d.feed.nudge()
	}
}

// Import is Store.Import of the users as [Normalize] returns them. Every look-up that begins after
// Commit returned sees the change.
func (d *Directory) Import(ctx context.Context, actor string) (Import, error) {
	if err := d.Status().Err; err != nil {
		return nil, err
	}
	change, err := d.store.Import(ctx, actor)
	if err != nil {
		return nil, err
	}
	return &importing{Import: change, directory: d}, nil
}

// importing is an import through a Directory. It keeps the ids of the users that it has changed, up to
// a number beyond which the whole cache is emptied.
type importing struct {
	Import
	directory *Directory
	ids       []int32
	many      bool
}

// Add implements Import.
func (i *importing) Add(ctx context.Context, users []User) (duplicates []int, err error) {
	normal := make([]User, len(users))
	for n := range users {
		if normal[n], err = Normalize(users[n]); err != nil {
			return nil, fmt.Errorf("id %d: %w", users[n].ID, err)
		}
	}
	switch {
	case i.many:
	case len(i.ids)+len(users) > maxFollowed:
		i.many, i.ids = true, nil
	default:
		for n := range users {
			i.ids = append(i.ids, users[n].ID)
		}
	}
	return i.Import.Add(ctx, normal)
}

// RemoveOthers implements Import.
func (i *importing) RemoveOthers(ctx context.Context) (int64, error) {
	i.many = true // nobody says which ids these are
	return i.Import.RemoveOthers(ctx)
}

// Commit implements Import.
func (i *importing) Commit(ctx context.Context) (ImportDone, error) {
	done, err := i.Import.Commit(ctx)
	i.directory.wrote(i.ids, i.many, done.State, err)
	return done, err
}
