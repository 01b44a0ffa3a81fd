package server

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	"example.com/roster/directory/storetest"
	rosterv1 "example.com/roster/gen/go/roster/v1"
)

// An export that is read too slowly ends with an error of its own. Even before the caller reads that, the store's
// log can begin again, and writes go on.
func TestAnExportThatIsReadTooSlowly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	store, err := sqlite.Config{ExportTime: time.Second}.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	const count = 20_000 // more than what is on the way between a server and a caller who does not read
	many := make([]directory.User, count)
	for i := range many {
		many[i] = directory.User{ID: int32(i), Name: strings.Repeat("n", 200)}
	}
	if err := storetest.Put(t.Context(), store, many...); err != nil {
		t.Fatal(err)
	}
	// Only the limit of the store ends it, and not that of the connection.
	c, p := usersOf(t, store, Config{stallTimeout: time.Hour})
	streams := map[string]*connect.ServerStreamForClient[rosterv1.ExportUsersResponse]{}
	for name, options := range directoryProtocols {
		stream, err := p.unreading(options...).ExportUsers(t.Context(), &rosterv1.ExportUsersRequest{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stream.Close() })
		if !stream.Receive() {
			t.Fatalf("%s: %v", name, stream.Err())
		}
		if streams[name] = stream; len(streams) == 4 {
			break // the most that run at a time
		}
	}
	for i := range 10 {
		must[*rosterv1.User](t)(c.CreateUser(t.Context(), create(int32(count+i), "New", "")))
	}
	other, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		var busy, pages, taken int
		if err := other.QueryRow("PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &taken); err != nil {
			t.Fatal(err)
		}
		if busy == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the exports hold the log")
		}
	}
	for name, stream := range streams {
		told := len(stream.Msg().GetUsers())
		for ; stream.Receive(); told += len(stream.Msg().GetUsers()) {
			if first := stream.Msg().GetUsers()[0].GetId(); first != int32(told) {
				t.Errorf("%s: id %d comes where %d should", name, first, told)
			}
		}
		if told >= count {
			t.Errorf("%s: it was not too slow", name)
		}
		wantError(t, stream.Err(), connect.CodeAborted,
			"the answer was read so slowly that the store could no longer keep its state: call again, and read faster or ask for less")
	}
	// Another one begins anew, and has the room of those. A busy machine may be too slow for it, too.
	for deadline := time.Now().Add(time.Minute); ; {
		again := must[*connect.ServerStreamForClient[rosterv1.ExportUsersResponse]](t)(c.ExportUsers(t.Context(), &rosterv1.ExportUsersRequest{Filter: `name = "new"`}))
		defer again.Close()
		if again.Receive() && len(again.Msg().GetUsers()) == 10 && !again.Receive() && again.Err() == nil {
			break
		}
		if connect.CodeOf(again.Err()) != connect.CodeAborted || time.Now().After(deadline) {
			t.Fatalf("another export: %v, %v", again.Msg(), again.Err())
		}
	}
}
