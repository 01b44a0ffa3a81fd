package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"example.com/roster/directory"
)

// version2 makes a store as the version before changes were recorded made it, open in that version: with the
// users of ids 1 to n, every tenth with the email of the one before.
func version2(t *testing.T, path string, n int) program {
	t.Helper()
	p := execute(t, path, fmt.Sprintf("PRAGMA application_id = %d", applicationID))
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, p.db, files)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"PRAGMA journal_mode = WAL", oldRevision, fmt.Sprintf(`WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < %d)
		INSERT INTO users SELECT id, 'Zoë User ' || id, id %% 100, 'U' || (id - (id %% 10 = 0)) || '@Example.com', 1 FROM n`, n)} {
		if err := p.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// The statements of that version, as it prepared them.
const (
	oldRevision = `UPDATE directory SET revision = revision + 1, previous = mark, mark = lower(hex(randomblob(16))),
		cookie = (SELECT schema_version FROM pragma_schema_version), closed = 0 WHERE one = 1 RETURNING revision`
	oldSelect = `SELECT u.id, u.name, u.age, u.email FROM json_each(?) AS asked CROSS JOIN users AS u ON u.id = asked.value`
)

func TestMigration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	old := version2(t, path, 1000)
	old.db.Close()
	began := time.Now().Add(-time.Second)
	store, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	state := stateOf(t, store)
	if state.Revision != 1 || state.Oldest != 1 || len(state.Epoch) != 32 {
		t.Errorf("%+v", state)
	}
	users, _, err := store.Get(t.Context(), []int32{9, 10})
	if err != nil || len(users) != 2 {
		t.Fatal(users, err)
	}
	for _, u := range users {
		if u.Revision != 1 || u.Created.Before(began) || u.Created.After(time.Now().Add(time.Second)) || !u.Created.Equal(u.Updated) || u.Email != "U9@Example.com" {
			t.Errorf("%+v", u)
		}
	}
	page, err := store.List(t.Context(), directory.Query{Limit: 5, Total: true, Filter: directory.Filter{NamePrefix: directory.FoldKey("ZOË user 99"), EmailPrefix: "u"}})
	if err != nil || page.Total != 11 {
		t.Errorf("%+v, %v", page, err)
	}
	// Equal emails stay, and their users can be changed otherwise; a new one is refused.
	change := func(user directory.User, fields directory.Fields) error {
		_, err := store.Write(t.Context(), directory.Write{Updates: []directory.Update{{User: user, Fields: fields}}})
		return err
	}
	if err := change(directory.User{ID: 10, Name: "Changed", Email: "u9@EXAMPLE.com"}, directory.NameField|directory.EmailField); err != nil {
		t.Error(err)
	}
	if err := change(directory.User{ID: 11, Email: "u9@example.com"}, directory.EmailField); !errors.Is(err, directory.ErrEmailTaken) {
		t.Errorf("got %v", err)
	}
	importing, err := store.Import(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer importing.Rollback()
	if _, err := importing.Add(t.Context(), []directory.User{{ID: 20, Name: "Changed too", Email: "u19@example.com"}, {ID: 21, Name: "B", Email: "u30@example.com"}}); err != nil {
		t.Fatal(err)
	}
	if taken, err := importing.EmailsTaken(t.Context(), 10); err != nil || len(taken) != 0 {
		t.Errorf("taken %+v, %v", taken, err)
	}
	if _, err := importing.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	wantCheck(t, path)
}

// wantCheck fails if roster check finds anything.
func wantCheck(t *testing.T, path string) {
	t.Helper()
	if _, err := Check(t.Context(), path, func(problem string) { t.Errorf("check: %s", problem) }); err != nil {
		t.Error(err)
	}
}

// A crash right after the migration, with all of it in the log, and one in the middle.
func TestACrashAfterAMigration(t *testing.T) {
	dir := t.TempDir()
	path, crashed := filepath.Join(dir, "roster.db"), filepath.Join(dir, "crashed.db")
	old := version2(t, path, 500)
	if err := old.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	db := open(path, writing)
	defer db.Close()
	db.SetMaxOpenConns(1)
	if err := migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	crash(t, path, crashed)
	store, err := Open(t.Context(), crashed)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if n := count(t, store, "SELECT count(*) FROM users WHERE name_key LIKE 'zoë user %'"); n != 500 {
		t.Errorf("%d users", n)
	}
	wantCheck(t, crashed)
}

// An old version that still has the file open goes on reading, and fails clearly when it writes.
func TestAnOldVersionBesideANewOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	old := version2(t, path, 100)
	reading, err := old.db.Prepare(oldSelect)
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Close()
	store, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	put(t, store, 1, 2, "New")
	before := stateOf(t, store)
	for name, statement := range map[string]string{
		"a change": "BEGIN IMMEDIATE; " + oldRevision + "; INSERT INTO users (revision, id, name, age, email) VALUES (9, 5, 'Old', 1, ''); COMMIT",
		"an edit":  "UPDATE directory SET revision = revision + 1 WHERE one = 1",
		"another file": `UPDATE directory SET epoch = CASE WHEN epoch IN ('x', '') THEN lower(hex(randomblob(16))) ELSE epoch END,
			revision = max(revision, 1048577), previous = mark, mark = lower(hex(randomblob(16))), closed = 0 WHERE one = 1`,
	} {
		if err := old.Exec(statement); err == nil || !strings.Contains(err.Error(), "a newer version of Roster has brought this store up to date") {
			t.Errorf("%s: got %v", name, err)
		}
		_ = old.Exec("ROLLBACK")
	}
	var user directory.User
	if err := reading.QueryRow("[1]").Scan(&user.ID, &user.Name, &user.Age, &user.Email); err != nil || user.Name != "New" {
		t.Errorf("it reads %+v, %v", user, err)
	}
	if err := old.Exec("UPDATE directory SET revision = revision WHERE one = 0"); err != nil { // how it finds out whether it may write
		t.Error(err)
	}
	// Its change of the mark, when it closes, is no change of the users.
	if err := old.Exec(`UPDATE directory SET previous = mark, mark = lower(hex(randomblob(16))), closed = 1 WHERE one = 1`); err != nil {
		t.Error(err)
	}
	if after := stateOf(t, store); after != before {
		t.Errorf("%+v after %+v", after, before)
	}
	put(t, store, 1, 2, "Newer")
	wantCheck(t, path)
}

// A store of an old version that cannot be written to is refused, and says what to do.
func TestAnOldStoreThatCanOnlyBeRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	version2(t, path, 1)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := checkUpToDate(t.Context(), db); !errors.Is(err, directory.ErrReadOnly) || !strings.Contains(err.Error(), "schema is version 2") {
		t.Errorf("got %v", err)
	}
}
