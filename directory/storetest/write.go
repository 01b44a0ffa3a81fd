package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"example.com/roster/directory"
)

var writeTests = []test{
	{"a write creates, updates and deletes at once", testWriteAll},
	{"an update changes the fields that it names", testUpdateFields},
	{"what changes nothing keeps the revision of its user", testUnchanged},
	{"a write refuses what does not fit", testWriteRefuses},
	{"a change that expects another state is refused with the present one", testExpected},
	{"a check writes nothing", testCheck},
	{"an email is unique without regard to case", testEmails},
	{"two users swap their emails in one write", testEmailSwap},
	{"a new id was never used", testNewID},
	{"no id is left after the highest", testNoID},
	{"times are those of the change and never fall", testTimes},
}

// create is the change that creates these users.
func creating(users ...directory.User) (change directory.Write) {
	for _, u := range users {
		change.Creates = append(change.Creates, directory.Create{User: u})
	}
	return change
}

// wantChangeError fails unless err is a ChangeError of this kind, place and user.
func wantChangeError(t *testing.T, err, kind error, part directory.Part, index int, id int32) *directory.ChangeError {
	t.Helper()
	change := (*directory.ChangeError)(nil)
	if !errors.As(err, &change) || !errors.Is(err, kind) || change.Part != part || change.Index != index || change.ID != id {
		t.Fatalf("got %#v, want %v of part %d, index %d, id %d", err, kind, part, index, id)
	}
	return change
}

func testWriteAll(t *testing.T, f fixture) {
	store, other := f.open(), f.open()
	f.put(store, users(1, 5)...)
	before := f.state(store)
	renamed := directory.User{ID: 3, Name: "Renamed", Age: 1, Email: user(2).Email}
	change := directory.Write{
		Actor:   "Ann",
		Deletes: []directory.Delete{{ID: 2}, {ID: 99, AllowMissing: true}},
		Updates: []directory.Update{{User: renamed, Fields: directory.AllFields}},
		Creates: []directory.Create{{User: user(8)}, {User: directory.User{Name: "New"}, NewID: true}},
	}
	written := f.write(store, change)
	if written.State.Revision != before.Revision+1 || written.State.Epoch != before.Epoch {
		t.Fatalf("state %+v after %+v", written.State, before)
	}
	added := directory.User{ID: 9, Name: "New"}
	if got := plain(written.Created); !slices.Equal(got, []directory.User{user(8), added}) {
		t.Errorf("created %v", got)
	}
	if got := plain(written.Updated); !slices.Equal(got, []directory.User{renamed}) {
		t.Errorf("updated %v", got)
	}
	if !slices.Equal(written.Deleted, []int32{2}) {
		t.Errorf("deleted %v", written.Deleted)
	}
	for _, s := range []directory.Store{store, other} {
		f.want(s, []int32{1, 2, 3, 4, 8, 9}, user(1), renamed, user(4), user(8), added)
		records, _, err := s.Get(t.Context(), []int32{3, 4, 8})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			want := written.State.Revision
			if r.ID == 4 {
				want = before.Revision
			}
			if r.Revision != want {
				t.Errorf("user %d has revision %d, want %d", r.ID, r.Revision, want)
			}
		}
	}
	// An empty change is one, too.
	if empty := f.write(store, directory.Write{}); empty.State.Revision != written.State.Revision+1 {
		t.Errorf("revision %d after an empty write, want %d", empty.State.Revision, written.State.Revision+1)
	}
}

func testUpdateFields(t *testing.T, f fixture) {
	store := f.open()
	f.put(store, user(1))
	other := directory.User{ID: 1, Name: "Other", Age: 7, Email: "other@example.com"}
	want := user(1)
	for fields, apply := range map[directory.Fields]func(){
		directory.NameField:  func() { want.Name = other.Name },
		directory.AgeField:   func() { want.Age = other.Age },
		directory.EmailField: func() { want.Email = other.Email },
	} {
		apply()
		written := f.write(store, directory.Write{Updates: []directory.Update{{User: other, Fields: fields}}})
		if got := plain(written.Updated); !slices.Equal(got, []directory.User{want}) {
			t.Fatalf("fields %b: %v, want %v", fields, got, want)
		}
		f.want(store, []int32{1}, want)
	}
	// The user as it is after the update must be valid.
	_, err := store.Write(t.Context(), directory.Write{Updates: []directory.Update{{User: directory.User{ID: 1}, Fields: directory.NameField}}})
	wantChangeError(t, err, directory.ErrInvalid, directory.InUpdates, 0, 1)
}

func testUnchanged(t *testing.T, f fixture) {
	store := f.open()
	first := f.put(store, user(1), user(2))
	changed := user(2)
	changed.Age++
	written := f.write(store, putting(user(1), changed))
	if written.State.Revision != first+1 || written.Updated[0].Revision != first || written.Updated[1].Revision != first+1 {
		t.Fatalf("written %+v after %d", written, first)
	}
	if changes := f.changes(store, first); len(changes) != 1 || changes[0].User.ID != 2 || !changes[0].Last {
		t.Fatalf("changes %+v", changes)
	}
}

func testWriteRefuses(t *testing.T, f fixture) {
	store := f.open()
	f.put(store, user(1), user(2))
	before := f.state(store)
	for name, test := range map[string]struct {
		change directory.Write
		kind   error
		part   directory.Part
		index  int
		id     int32
	}{
		"a missing user is deleted":     {directory.Write{Deletes: []directory.Delete{{ID: 1}, {ID: 7}}}, directory.ErrNotFound, directory.InDeletes, 1, 7},
		"a missing user is updated":     {directory.Write{Updates: []directory.Update{{User: user(7), Fields: directory.AllFields}}}, directory.ErrNotFound, directory.InUpdates, 0, 7},
		"a part of a missing user":      {directory.Write{Updates: []directory.Update{{User: user(7), Fields: directory.NameField, Replace: true}}}, directory.ErrInvalid, directory.InUpdates, 0, 7},
		"an id is taken":                {creating(user(7), user(2)), directory.ErrExists, directory.InCreates, 1, 2},
		"an id comes twice":             {creating(user(7), user(7)), directory.ErrInvalid, directory.InCreates, 1, 7},
		"an id is deleted and created":  {directory.Write{Deletes: []directory.Delete{{ID: 1}}, Creates: creating(user(1)).Creates}, directory.ErrInvalid, directory.InCreates, 0, 1},
		"a user that breaks a rule":     {creating(user(7), directory.User{ID: 8}), directory.ErrInvalid, directory.InCreates, 1, 8},
		"a user with a wrong age":       {putting(directory.User{ID: 1, Name: "A", Age: -1}), directory.ErrInvalid, directory.InUpdates, 0, 1},
		"a wrong state and missing":     {directory.Write{Updates: []directory.Update{{User: user(7), Fields: directory.AllFields, Replace: true, If: directory.Expected{Epoch: before.Epoch, Revision: 1}}}}, directory.ErrNotFound, directory.InUpdates, 0, 7},
		"the email of somebody created": {creating(user(7), directory.User{ID: 8, Name: "H", Email: user(7).Email}), directory.ErrEmailTaken, directory.InCreates, 0, 7},
	} {
		_, err := store.Write(t.Context(), test.change)
		t.Run(name, func(t *testing.T) { wantChangeError(t, err, test.kind, test.part, test.index, test.id) })
	}
	if after := f.state(store); after != before {
		t.Errorf("state %+v, want %+v", after, before)
	}
	f.want(store, []int32{1, 2, 7, 8}, user(1), user(2))
}

func testExpected(t *testing.T, f fixture) {
	store, other := f.open(), f.open()
	first := f.write(store, putting(user(1), user(2)))
	now := directory.Expected{Epoch: first.State.Epoch, Revision: first.State.Revision}
	changed := user(1)
	changed.Age++
	second := f.write(other, directory.Write{Updates: []directory.Update{{User: changed, Fields: directory.AllFields, If: now}}})
	// What was read before is no longer so, for an update as for a delete; nor is another epoch.
	for _, want := range []directory.Expected{now, {Epoch: "another", Revision: second.State.Revision}, {Epoch: now.Epoch, Revision: second.State.Revision + 1}} {
		_, err := store.Write(t.Context(), directory.Write{Updates: []directory.Update{{User: user(1), Fields: directory.AllFields, If: want}}})
		refused := wantChangeError(t, err, directory.ErrChanged, directory.InUpdates, 0, 1)
		if refused.Present == nil || refused.Present.User != changed || refused.Present.Revision != second.State.Revision {
			t.Errorf("the present state is %+v", refused.Present)
		}
		_, err = store.Write(t.Context(), directory.Write{Deletes: []directory.Delete{{ID: 1, If: want, AllowMissing: true}}})
		wantChangeError(t, err, directory.ErrChanged, directory.InDeletes, 0, 1)
	}
	// User 2 has not changed since.
	f.write(store, directory.Write{Deletes: []directory.Delete{{ID: 2, If: now}}})
	f.want(store, []int32{1, 2}, changed)
}

func testCheck(t *testing.T, f fixture) {
	store := f.open()
	f.put(store, user(1), user(2))
	before := f.state(store)
	change := directory.Write{Check: true, Deletes: []directory.Delete{{ID: 2}}, Creates: []directory.Create{{User: directory.User{Name: "New"}, NewID: true}}}
	for range 2 { // the id is not used up
		written := f.write(store, change)
		if written.State != before || len(written.Created) != 1 || written.Created[0].ID != 3 || written.Created[0].Revision != 0 || !slices.Equal(written.Deleted, []int32{2}) {
			t.Fatalf("written %+v, before %+v", written, before)
		}
	}
	_, err := store.Write(t.Context(), directory.Write{Check: true, Creates: creating(user(1)).Creates})
	wantChangeError(t, err, directory.ErrExists, directory.InCreates, 0, 1)
	if after := f.state(store); after != before {
		t.Errorf("state %+v, want %+v", after, before)
	}
	f.want(store, []int32{1, 2, 3}, user(1), user(2))
}

func testEmails(t *testing.T, f fixture) {
	store := f.open()
	named := func(id int32, email string) directory.User { return directory.User{ID: id, Name: "N", Email: email} }
	f.put(store, named(1, "ann@example.com"), named(2, "straße@example.com"), named(3, ""), named(4, ""))
	for _, email := range []string{"ANN@example.com", "Ann@Example.Com", "STRASSE@EXAMPLE.COM", "strasse@example.com"} {
		_, err := store.Write(t.Context(), creating(named(7, email)))
		refused := wantChangeError(t, err, directory.ErrEmailTaken, directory.InCreates, 0, 7)
		if refused.Present == nil || refused.Present.ID > 2 {
			t.Errorf("%s is taken by %+v", email, refused.Present)
		}
		_, err = store.Write(t.Context(), putting(named(3, email)))
		wantChangeError(t, err, directory.ErrEmailTaken, directory.InUpdates, 0, 3)
	}
	// One's own, in other letters; and one that is free in the same change.
	f.put(store, named(1, "Ann@Example.com"))
	f.write(store, directory.Write{Deletes: []directory.Delete{{ID: 1}}, Creates: creating(named(7, "ANN@EXAMPLE.COM")).Creates})
	f.want(store, []int32{1, 7}, named(7, "ANN@EXAMPLE.COM"))
}

func testEmailSwap(t *testing.T, f fixture) {
	store := f.open()
	f.put(store, user(1), user(2), user(3))
	a, b := user(1), user(2)
	a.Email, b.Email = b.Email, a.Email
	f.put(store, a, b)
	f.want(store, []int32{1, 2}, a, b)
	// Half of a swap is refused, and changes nothing.
	_, err := store.Write(t.Context(), putting(user(1)))
	wantChangeError(t, err, directory.ErrEmailTaken, directory.InUpdates, 0, 1)
	// Round three.
	c := user(3)
	a.Email, b.Email, c.Email = b.Email, c.Email, a.Email
	f.put(store, a, b, c)
	f.want(store, []int32{1, 2, 3}, a, b, c)
}

func testNewID(t *testing.T, f fixture) {
	store := f.open()
	fresh := func(want ...int32) {
		t.Helper()
		var change directory.Write
		for range want {
			change.Creates = append(change.Creates, directory.Create{User: directory.User{Name: "New"}, NewID: true})
		}
		var got []int32
		for _, u := range f.write(store, change).Created {
			got = append(got, u.ID)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("new ids %v, want %v", got, want)
		}
	}
	f.put(store, directory.User{ID: -5, Name: "Below"}, directory.User{ID: 0, Name: "Zero"})
	fresh(1, 2)
	f.write(store, deleting(1, 2)) // they were used
	fresh(3)
	f.put(store, user(70))
	f.write(store, deleting(70))
	fresh(71)
	change := f.begin(store)
	f.add(change, user(100))
	f.commit(change)
	f.write(store, deleting(100))
	fresh(101)
	// The other ids of the same change count, wherever they come.
	written := f.write(store, directory.Write{Creates: []directory.Create{{User: directory.User{Name: "New"}, NewID: true}, {User: user(102)}}})
	if written.Created[0].ID != 103 {
		t.Errorf("new id %d, want 103", written.Created[0].ID)
	}
	// A change that was refused has used none.
	if _, err := store.Write(t.Context(), creating(user(500), user(102))); !errors.Is(err, directory.ErrExists) {
		t.Fatal(err)
	}
	// Nor has a row that an import took out again.
	change = f.begin(store)
	f.add(change, user(110), user(600))
	if err := change.Undo(t.Context(), []int32{600}); err != nil {
		t.Fatal(err)
	}
	f.commit(change)
	fresh(111)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	store = f.open()
	fresh(112)
}

func testNoID(t *testing.T, f fixture) {
	store := f.open()
	f.put(store, user(1<<31-2))
	anyID := directory.Write{Creates: []directory.Create{{User: directory.User{Name: "New"}, NewID: true}}}
	if id := f.write(store, anyID).Created[0].ID; id != 1<<31-1 {
		t.Fatalf("id %d", id)
	}
	f.write(store, deleting(1<<31-1))
	before := f.state(store)
	if _, err := store.Write(t.Context(), anyID); !errors.Is(err, directory.ErrNoID) {
		t.Fatalf("got %v, want ErrNoID", err)
	}
	if after := f.state(store); after != before {
		t.Errorf("state %+v, want %+v", after, before)
	}
	f.put(store, user(5)) // ids that are given still work
}

func testTimes(t *testing.T, f fixture) {
	store := f.open()
	began := time.Now().Add(-time.Second)
	first := f.write(store, putting(user(1), user(2))).Updated[0]
	changed := user(1)
	changed.Age++
	second := f.write(store, putting(changed)).Updated[0]
	if first.Created.Before(began) || first.Created.After(time.Now().Add(time.Second)) || !first.Created.Equal(first.Updated) {
		t.Errorf("created %v, updated %v", first.Created, first.Updated)
	}
	if !second.Created.Equal(first.Created) || second.Updated.Before(first.Updated) || second.Created.Location() != time.UTC {
		t.Errorf("first %+v, then %+v", first, second)
	}
	records, _, err := store.Get(t.Context(), []int32{1})
	if err != nil || len(records) != 1 || records[0] != second {
		t.Errorf("got %+v, %v, want %+v", records, err, second)
	}
	last := first.Updated
	for n := range int32(20) {
		changed.Age = 50 + n
		updated := f.write(store, putting(changed)).Updated[0].Updated
		if updated.Before(last) {
			t.Fatalf("%v after %v", updated, last)
		}
		last = updated
	}
}
