package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"

	"example.com/roster/directory"
)

var listTests = []test{
	{"pages have every user once, in order", testListPages},
	{"a list has the users that match its filter", testListFilters},
	{"pages go on where they were while users change", testListBesideWrites},
	{"an export has all users as of one revision", testExport},
	{"an export ends with the error of its reader", testExportRefused},
}

// crowd is some users whose names and emails are hard to order.
func crowd() []directory.User {
	names := []string{"anna", "Anna", "ANNA", "Ann", "anne", "Ändern", "ändern", "A\u0308ndern", "Zoë", "zoe\u0308", "zoo", "Straße", "STRASSE",
		"名前", "名", "𝔄nna", "\U0010FFFDend", "\u00ffy", "ÿ", "z", "Ω", "ω", "İstanbul", "istanbul"}
	var list []directory.User
	for i, name := range names {
		for n := range 3 {
			id := int32((i*7+n*131)%997 - 300)
			email := ""
			if n > 0 {
				email = fmt.Sprintf("%c%d.%d@example.com", "aAbBzZ"[i%6], n, i)
			}
			list = append(list, directory.User{ID: id, Name: name, Age: int32(i), Email: email})
		}
	}
	return list
}

// expect returns the users that match the filter of a query, in its order.
func expect(all []directory.User, q directory.Query) []directory.User {
	var list []directory.User
	for _, u := range all {
		if q.Filter.Matches(u.Name, u.Email) {
			list = append(list, u)
		}
	}
	slices.SortFunc(list, func(a, b directory.User) int {
		order := cmp.Compare(a.ID, b.ID)
		if q.ByName {
			order = cmp.Or(cmp.Compare(directory.FoldKey(a.Name), directory.FoldKey(b.Name)), order)
		}
		if q.Descending {
			order = -order
		}
		return order
	})
	return list
}

// pages reads all pages of a query.
func (f fixture) pages(store directory.Store, q directory.Query) []directory.User {
	f.Helper()
	var list []directory.User
	for {
		page, err := store.List(f.Context(), q)
		if err != nil {
			f.Fatalf("list %+v: %v", q, err)
		}
		if len(page.Users) > q.Limit || page.More && len(page.Users) != q.Limit {
			f.Fatalf("list %+v: a page of %d users, more: %v", q, len(page.Users), page.More)
		}
		list = append(list, plain(page.Users)...)
		if !page.More {
			return list
		}
		last := page.Users[len(page.Users)-1]
		q.After = &directory.PageKey{NameKey: directory.FoldKey(last.Name), ID: last.ID}
	}
}

func testListPages(t *testing.T, f fixture) {
	store := f.open()
	if page, err := store.List(t.Context(), directory.Query{Limit: 5, Total: true}); err != nil || len(page.Users) > 0 || page.More || page.Total != 0 {
		t.Fatalf("of nobody: %+v, %v", page, err)
	}
	all := crowd()
	revision := f.put(store, all...)
	for _, limit := range []int{1, 7, len(all), len(all) + 1} {
		for _, byName := range []bool{false, true} {
			for _, descending := range []bool{false, true} {
				q := directory.Query{Limit: limit, ByName: byName, Descending: descending}
				if got, want := f.pages(store, q), expect(all, q); !slices.Equal(got, want) {
					t.Errorf("%+v:\n got %v\nwant %v", q, got, want)
				}
			}
		}
	}
	page, err := store.List(t.Context(), directory.Query{Limit: 2, Total: true})
	if err != nil || page.Total != int64(len(all)) || page.State != f.state(store) || page.Users[0].Revision != revision || page.Users[0].Created.IsZero() {
		t.Errorf("got %+v, %v", page, err)
	}
}

func testListFilters(t *testing.T, f fixture) {
	store := f.open()
	all := crowd()
	f.put(store, all...)
	names := []string{"", "a", "an", "anna", "ä", "z", "zo", "stras", "名", "ÿ", "\U0010FFFD", "ω", "nobody", "i", "𝔄"}
	emails := []string{"", "a", "a1", "z2.", "b1.2@example.com", "nobody"}
	for _, name := range names {
		for _, email := range emails {
			for variant := range 16 {
				q := directory.Query{Limit: 5, Total: true, ByName: variant&1 > 0, Descending: variant&2 > 0, Filter: directory.Filter{
					NamePrefix: directory.FoldKey(name), EmailPrefix: directory.FoldKey(email),
					NameIs: variant&4 > 0, EmailIs: variant&8 > 0}}
				want := expect(all, q)
				if got := f.pages(store, q); !slices.Equal(got, want) {
					t.Fatalf("%+v:\n got %v\nwant %v", q, got, want)
				}
				if page, err := store.List(t.Context(), q); err != nil || page.Total != int64(len(want)) {
					t.Fatalf("%+v: total %d, %v, want %d", q, page.Total, err, len(want))
				}
			}
		}
	}
}

// A user that is there all the time is on exactly one page, whatever is created and deleted meanwhile.
func testListBesideWrites(t *testing.T, f fixture) {
	store := f.open()
	for _, byName := range []bool{false, true} {
		f.put(store, users(0, 200)...)
		q := directory.Query{Limit: 10, ByName: byName}
		seen := make(map[int32]int)
		for n := int32(0); ; n++ {
			page, err := store.List(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range page.Users {
				seen[u.ID]++
			}
			if !page.More {
				break
			}
			last := page.Users[len(page.Users)-1]
			q.After = &directory.PageKey{NameKey: directory.FoldKey(last.Name), ID: last.ID}
			f.write(store, deleting(last.ID, n)) // the cursor's own user, too
			f.put(store, user(1000+n), user(-1-n))
		}
		for id, times := range seen {
			if times != 1 {
				t.Errorf("user %d is on %d pages", id, times)
			}
		}
		for id := int32(30); id < 200; id++ {
			if byName == (id%10 != 9) && seen[id] == 0 && byName {
				continue
			}
			if seen[id] == 0 && !byName {
				t.Errorf("user %d is on no page", id)
			}
		}
		f.write(store, deleting(append(ids(-40, 200), ids(1000, 1040)...)...))
	}
}

func ids(from, to int32) (list []int32) {
	for id := from; id < to; id++ {
		list = append(list, id)
	}
	return list
}

func testExport(t *testing.T, f fixture) {
	store := f.open()
	all := append(users(1000, 3200), crowd()...)
	f.put(store, all...)
	for _, filter := range []directory.Filter{{}, {NamePrefix: "zo"}, {EmailPrefix: "u1"}, {EmailPrefix: "u1500@example.com", EmailIs: true}, {NamePrefix: "anna", NameIs: true}} {
		before := f.state(store)
		var got []directory.User
		calls := 0
		state, err := store.Export(t.Context(), filter, func(now directory.State, list []directory.Record) error {
			if calls++; now != before {
				t.Fatalf("state %+v, want %+v", now, before)
			}
			got = append(got, plain(list)...)
			if calls == 1 { // a change does not show
				f.put(store, directory.User{ID: 5000, Name: fmt.Sprint("Zo ", len(got), f.revision(store))})
			}
			return nil
		})
		if err != nil || state != before {
			t.Fatalf("%+v: state %+v, %v, want %+v", filter, state, err, before)
		}
		if want := expect(all, directory.Query{Filter: filter}); !slices.Equal(got, want) {
			t.Errorf("%+v: %d users, want %d", filter, len(got), len(want))
		}
		f.write(store, deleting(5000))
	}
}

func testExportRefused(t *testing.T, f fixture) {
	store := f.open()
	f.put(store, users(0, 3000)...)
	full, calls := errors.New("full"), 0
	_, err := store.Export(t.Context(), directory.Filter{}, func(directory.State, []directory.Record) error { calls++; return full })
	if !errors.Is(err, full) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	f.put(store, user(1))
}
