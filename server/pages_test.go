package server

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"example.com/roster/directory/sqlite"
	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/gen/go/roster/v1/rosterv1connect"
)

// A page token that was changed, or is of another filter, another order or another method, is refused with what
// is wrong with it. So is one of another history: of a store that was restored from a backup, or that another
// file has taken the place of. Whatever it is, the field is named, and the first page helps.
func TestPageTokensOfOtherPages(t *testing.T) {
	folder := t.TempDir()
	path, backup := filepath.Join(folder, "roster.db"), filepath.Join(folder, "backup.db")
	store, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	c, p := usersOf(t, store, Config{})
	for id := range int32(9) {
		must[*rosterv1.User](t)(c.CreateUser(t.Context(), create(id+1, fmt.Sprint("Ann ", id), "")))
	}
	filtered := &rosterv1.ListUsersRequest{Filter: `name = "ann*"`, OrderBy: "name", PageSize: 2}
	users := tokenOf(t, c, filtered)
	all := tokenOf(t, c, &rosterv1.ListUsersRequest{PageSize: 2})
	changes := changesTokenOf(t, c)

	const anew = ": send next_page_token as it came, with the filter and the order of its page, or begin with the first page"
	for name, options := range directoryProtocols {
		t.Run(name, func(t *testing.T) {
			c := rosterv1connect.NewDirectoryServiceClient(client(t, true), "http://"+p.address, options...)
			list := func(token, filter, order string) error {
				_, err := c.ListUsers(t.Context(), &rosterv1.ListUsersRequest{PageToken: token, Filter: filter, OrderBy: order})
				return err
			}
			history := func(token string) error {
				_, err := c.ListChanges(t.Context(), &rosterv1.ListChangesRequest{PageToken: token})
				return err
			}
			for _, bad := range []struct {
				err   error
				words string
			}{
				{list(users, `name = "ben*"`, "name"), "page_token: is of another filter or order_by"},
				{list(users, `name = "ann"`, "name"), "page_token: is of another filter or order_by"},
				{list(users, `email = "ann*"`, "name"), "page_token: is of another filter or order_by"},
				{list(users, "", "name"), "page_token: is of another filter or order_by"},
				{list(users, `name = "ann*"`, ""), "page_token: is of another filter or order_by"},
				{list(users, `name = "ann*"`, "name desc"), "page_token: is of another filter or order_by"},
				{list(all, `name = "ann*"`, ""), "page_token: is of another filter or order_by"},
				{list(changes, "", ""), "page_token: is of another method"},
				{history(users), "page_token: is of another method"},
				{list(users[1:], `name = "ann*"`, "name"), "page_token: "}, // whichever of the two below
				{list(users[4:], `name = "ann*"`, "name"), "page_token: was changed, cut, or made by another version of the server"},
				{list(tampered(t, users), `name = "ann*"`, "name"), "page_token: was changed, cut, or made by another version of the server"},
				{list("%", "", ""), "page_token: is not a page token, or was cut"},
				{history(tampered(t, changes)), "page_token: was changed, cut, or made by another version of the server"},
				{history("x"), "page_token: is not a page token, or was cut"},
			} {
				wantError(t, bad.err, connect.CodeInvalidArgument, bad.words)
				wantError(t, bad.err, connect.CodeInvalidArgument, anew)
				wantField(t, bad.err, "page_token")
			}
			// The same filter in other words is the same filter.
			if err := list(users, `  name="ANN*" `, "name"); err != nil {
				t.Error(err)
			}
			if err := list(strings.Repeat("x", 2049), "", ""); connect.CodeOf(err) != connect.CodeInvalidArgument {
				t.Errorf("a token that is too long: %v", err)
			}
		})
	}

	before := p.server.config.Directory.State().Epoch
	refused := func(c rosterv1connect.DirectoryServiceClient, now string) {
		t.Helper()
		if before == now {
			t.Fatalf("the epoch is %s as before", now)
		}
		_, err := c.ListUsers(t.Context(), &rosterv1.ListUsersRequest{PageToken: users, Filter: filtered.GetFilter(), OrderBy: "name"})
		wantError(t, err, connect.CodeOutOfRange, fmt.Sprintf(
			"page_token is of another history (epoch %s, now %s): the store was restored from a backup or replaced; begin with the first page", before, now))
		_, err = c.ListChanges(t.Context(), &rosterv1.ListChangesRequest{PageToken: changes})
		wantError(t, err, connect.CodeOutOfRange, fmt.Sprintf(
			"is of another history (epoch %s, now %s): the store was restored from a backup or replaced; list the users again", before, now))
		// What the message says helps.
		tokenOf(t, c, filtered)
		if _, err := c.ListChanges(t.Context(), &rosterv1.ListChangesRequest{Epoch: now, FromRevision: stateOf(t, c).GetRevision()}); err != nil {
			t.Error(err)
		}
	}

	// Another file with the same users, in the place of this one while the port serves.
	if _, err := sqlite.Backup(t.Context(), path, backup, false); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(folder, "copy.db")
	if data, err := os.ReadFile(backup); err != nil || os.WriteFile(copied, data, 0o600) != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copied, path); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); p.server.config.Directory.State().Epoch == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody notices the other file")
		}
	}
	refused(c, p.server.config.Directory.State().Epoch)

	// The backup, restored while no process has the store open.
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	p.server.config.Directory.Close()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Restore(t.Context(), backup, path); err != nil {
		t.Fatal(err)
	}
	restored, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { restored.Close() })
	c, p = usersOf(t, restored, Config{})
	refused(c, p.server.config.Directory.State().Epoch)
}

func tokenOf(t *testing.T, c rosterv1connect.DirectoryServiceClient, request *rosterv1.ListUsersRequest) string {
	t.Helper()
	page := must[*rosterv1.ListUsersResponse](t)(c.ListUsers(t.Context(), request))
	if page.GetNextPageToken() == "" {
		t.Fatalf("there is no second page: %v", page)
	}
	return page.GetNextPageToken()
}

func changesTokenOf(t *testing.T, c rosterv1connect.DirectoryServiceClient) string {
	t.Helper()
	page := must[*rosterv1.ListChangesResponse](t)(c.ListChanges(t.Context(), &rosterv1.ListChangesRequest{PageSize: 2}))
	if page.GetNextPageToken() == "" {
		t.Fatalf("there is no second page: %v", page)
	}
	return page.GetNextPageToken()
}

func stateOf(t *testing.T, c rosterv1connect.DirectoryServiceClient) *rosterv1.ListUsersResponse {
	t.Helper()
	return must[*rosterv1.ListUsersResponse](t)(c.ListUsers(t.Context(), &rosterv1.ListUsersRequest{PageSize: 1}))
}

// tampered is a token with another last byte, as of somebody who would like to read on elsewhere.
func tampered(t *testing.T, token string) string {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1]++
	return base64.RawURLEncoding.EncodeToString(data)
}

// wantField checks that an error names a field, and no other.
func wantField(t *testing.T, err error, field string) {
	t.Helper()
	for _, detail := range errorDetails(err) {
		value, failed := detail.Value()
		if request, ok := value.(*errdetails.BadRequest); failed == nil && ok && len(request.GetFieldViolations()) == 1 && request.GetFieldViolations()[0].GetField() == field {
			return
		}
	}
	t.Errorf("%v does not name the field %s alone", err, field)
}
