package server

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/gen/go/roster/v1/rosterv1connect"
)

// users is the client of an empty directory on a real store.
func users(t *testing.T, config Config, options ...connect.ClientOption) (rosterv1connect.DirectoryServiceClient, *port) {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "roster.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return usersOf(t, store, config, options...)
}

// usersOf is the client of a directory on a store.
func usersOf(t *testing.T, store directory.Store, config Config, options ...connect.ClientOption) (rosterv1connect.DirectoryServiceClient, *port) {
	t.Helper()
	var err error
	config.Directory, err = directory.New(t.Context(), store, directory.Config{PollInterval: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(config.Directory.Close)
	config.Local = true
	p := start(t, config, nil)
	return rosterv1connect.NewDirectoryServiceClient(client(t, true), "http://"+p.address, options...), p
}

func wantError(t *testing.T, err error, code connect.Code, words string) {
	t.Helper()
	if connect.CodeOf(err) != code || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v, want %v: %s", err, code, words)
	}
}

func must[R any](t *testing.T) func(R, error) R {
	return func(reply R, err error) R {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
}

func create(id int32, name, email string) *rosterv1.CreateUserRequest {
	return &rosterv1.CreateUserRequest{User: &rosterv1.User{Id: id, Name: name, Email: email}}
}

// Every method does what its comment in the proto says, in every protocol and both codecs.
func TestTheDirectoryService(t *testing.T) {
	for name, options := range map[string][]connect.ClientOption{
		"gRPC": {connect.WithGRPC()}, "gRPC-Web": {connect.WithGRPCWeb()}, "Connect": nil, "Connect JSON": {connect.WithProtoJSON()},
		"gRPC JSON": {connect.WithGRPC(), connect.WithProtoJSON()},
	} {
		t.Run(name, func(t *testing.T) { testDirectoryService(t, options) })
	}
}

func testDirectoryService(t *testing.T, options []connect.ClientOption) {
	ctx, user := t.Context(), must[*rosterv1.User](t)
	c, _ := users(t, Config{}, options...)
	ann := user(c.CreateUser(ctx, create(0, " Ann ", "ann@example.com")))
	if ann.GetId() != 1 || ann.GetName() != "Ann" || ann.GetEtag() == "" || ann.GetRevision() == 0 || !ann.GetCreateTime().IsValid() {
		t.Errorf("created %v", ann)
	}
	ben := user(c.CreateUser(ctx, create(7, "Ben", "")))
	if check := user(c.CreateUser(ctx, &rosterv1.CreateUserRequest{User: &rosterv1.User{Name: "Cat"}, ValidateOnly: true})); check.GetId() != 8 {
		t.Errorf("the check of a creation: %v", check)
	}
	if got := user(c.GetUser(ctx, &rosterv1.GetUserRequest{Id: 1, MinRevision: ben.GetRevision()})); got.GetEtag() != ann.GetEtag() || got.GetName() != "Ann" {
		t.Errorf("got %v", got)
	}
	_, err := c.GetUser(ctx, &rosterv1.GetUserRequest{Id: 8})
	wantError(t, err, connect.CodeNotFound, "nobody has the id 8")
	_, err = c.GetUser(ctx, &rosterv1.GetUserRequest{Id: 1, MinRevision: 1 << 40})
	wantError(t, err, connect.CodeOutOfRange, "in the future")
	_, err = c.CreateUser(ctx, create(7, "Cat", ""))
	wantError(t, err, connect.CodeAlreadyExists, "a user with the id 7 already")
	_, err = c.CreateUser(ctx, create(9, "Cat", "ANN@example.com"))
	wantError(t, err, connect.CodeAlreadyExists, "the email of id 9 is taken, by id 1")
	_, err = c.CreateUser(ctx, create(9, "\u200b", ""))
	wantError(t, err, connect.CodeInvalidArgument, "user.name: must have a visible character")

	older := user(c.UpdateUser(ctx, &rosterv1.UpdateUserRequest{User: &rosterv1.User{Id: 1, Age: 31, Etag: ann.GetEtag()}}))
	if older.GetAge() != 31 || older.GetName() != "Ann" || older.GetEtag() == ann.GetEtag() {
		t.Errorf("updated %v", older)
	}
	_, err = c.UpdateUser(ctx, &rosterv1.UpdateUserRequest{User: &rosterv1.User{Id: 1, Age: 32, Etag: ann.GetEtag()}})
	wantError(t, err, connect.CodeAborted, "user 1 has changed since its etag")
	if details := err.(*connect.Error).Details(); len(details) != 1 {
		t.Errorf("%d details of a lost update", len(details))
	} else if value, err := details[0].Value(); err != nil || value.(*rosterv1.User).GetAge() != 31 || value.(*rosterv1.User).GetEtag() != older.GetEtag() {
		t.Errorf("the present user is %v, %v", value, err)
	}
	for _, bad := range []struct {
		user  *rosterv1.User
		mask  []string
		words string
	}{
		{&rosterv1.User{Id: 7, Age: 3, Etag: ann.GetEtag()}, nil, "user.etag: is that of the user 1 and not of 7"},
		{&rosterv1.User{Id: 7, Age: 3, Etag: "x"}, nil, "user.etag: is not an etag"},
		{&rosterv1.User{Id: 7}, nil, "update_mask: names no field"},
		{&rosterv1.User{Id: 7}, []string{"nickname"}, `update_mask: "nickname" is no field of a user`},
		{&rosterv1.User{Id: 7}, []string{"age", "create_time"}, "update_mask: create_time cannot be changed"},
		{&rosterv1.User{Id: 7, Age: 200}, []string{"age"}, "user.age: must be greater than or equal to 0 and less than or equal to 150, is 200"},
		{&rosterv1.User{Id: 7}, []string{"name"}, "user.name: must be at least 1 bytes"},
	} {
		_, err := c.UpdateUser(ctx, &rosterv1.UpdateUserRequest{User: bad.user, UpdateMask: &fieldmaskpb.FieldMask{Paths: bad.mask}})
		wantError(t, err, connect.CodeInvalidArgument, bad.words)
	}
	// A field that the mask does not name may break its rule.
	user(c.UpdateUser(ctx, &rosterv1.UpdateUserRequest{User: &rosterv1.User{Id: 7, Age: 9, Email: "none"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"age"}}}))
	_, err = c.UpdateUser(ctx, &rosterv1.UpdateUserRequest{User: &rosterv1.User{Id: 99, Age: 9}})
	wantError(t, err, connect.CodeNotFound, "nobody has the id 99")

	user(c.UpdateUser(ctx, &rosterv1.UpdateUserRequest{User: &rosterv1.User{Id: 7, Email: "ben@example.com"}}))
	batch := must[*rosterv1.BatchUpdateUsersResponse](t)
	swapped := batch(c.BatchUpdateUsers(ctx, &rosterv1.BatchUpdateUsersRequest{
		Updates: []*rosterv1.UpdateUserRequest{{User: &rosterv1.User{Id: 1, Email: "ben@example.com"}}, {User: &rosterv1.User{Id: 7, Email: "ann@example.com"}}},
		Creates: []*rosterv1.CreateUserRequest{create(0, "Cat", "")},
	}))
	if len(swapped.GetUpdated()) != 2 || swapped.GetUpdated()[0].GetEmail() != "ben@example.com" || swapped.GetCreated()[0].GetId() != 8 {
		t.Errorf("a swap: %v", swapped)
	}
	_, err = c.BatchUpdateUsers(ctx, &rosterv1.BatchUpdateUsersRequest{
		Updates: []*rosterv1.UpdateUserRequest{{User: &rosterv1.User{Id: 1, Age: 1}}}, Deletes: []*rosterv1.DeleteUserRequest{{Id: 1}}})
	wantError(t, err, connect.CodeInvalidArgument, "updates[0]: names the user 1, as deletes[0] does")
	_, err = c.BatchUpdateUsers(ctx, &rosterv1.BatchUpdateUsersRequest{Deletes: []*rosterv1.DeleteUserRequest{{Id: 1}, {Id: 55}}})
	wantError(t, err, connect.CodeNotFound, "deletes[1]: nobody has the id 55")
	user(c.GetUser(ctx, &rosterv1.GetUserRequest{Id: 1})) // nothing of it was done
	_, err = c.BatchUpdateUsers(ctx, &rosterv1.BatchUpdateUsersRequest{})
	wantError(t, err, connect.CodeInvalidArgument, "there is nothing to change")

	list := must[*rosterv1.ListUsersResponse](t)
	request := &rosterv1.ListUsersRequest{PageSize: 2, OrderBy: "name desc", ShowTotal: true}
	first := list(c.ListUsers(ctx, request))
	if len(first.GetUsers()) != 2 || first.GetUsers()[0].GetName() != "Cat" || first.GetTotalSize() != 3 || first.GetNextPageToken() == "" {
		t.Errorf("the first page: %v", first)
	}
	request.PageToken = first.GetNextPageToken()
	if second := list(c.ListUsers(ctx, request)); len(second.GetUsers()) != 1 || second.GetUsers()[0].GetName() != "Ann" || second.GetNextPageToken() != "" {
		t.Errorf("the second page: %v", second)
	}
	_, err = c.ListUsers(ctx, &rosterv1.ListUsersRequest{PageToken: first.GetNextPageToken(), OrderBy: "name"})
	wantError(t, err, connect.CodeInvalidArgument, "page_token: is of another filter or order_by")
	_, err = c.ListUsers(ctx, &rosterv1.ListUsersRequest{PageToken: first.GetNextPageToken()[1:], OrderBy: "name desc"})
	wantError(t, err, connect.CodeInvalidArgument, "page_token: ")
	_, err = c.ListUsers(ctx, &rosterv1.ListUsersRequest{Filter: `name = Ann`})
	wantError(t, err, connect.CodeInvalidArgument, "filter: column 8: ")
	if found := list(c.ListUsers(ctx, &rosterv1.ListUsersRequest{Filter: `email = "BEN@*"`})); len(found.GetUsers()) != 1 || found.GetUsers()[0].GetId() != 1 {
		t.Errorf("filtered: %v", found)
	}

	_, err = c.DeleteUser(ctx, &rosterv1.DeleteUserRequest{Id: 1, Etag: ann.GetEtag()})
	wantError(t, err, connect.CodeAborted, "user 1 has changed")
	gone := must[*rosterv1.DeleteUserResponse](t)(c.DeleteUser(ctx, &rosterv1.DeleteUserRequest{Id: 1}))
	_, err = c.DeleteUser(ctx, &rosterv1.DeleteUserRequest{Id: 1})
	wantError(t, err, connect.CodeNotFound, "nobody has the id 1")
	must[*rosterv1.DeleteUserResponse](t)(c.DeleteUser(ctx, &rosterv1.DeleteUserRequest{Id: 1, AllowMissing: true}))

	changes := must[*rosterv1.ListChangesResponse](t)
	history := changes(c.ListChanges(ctx, &rosterv1.ListChangesRequest{PageSize: 3}))
	var all []*rosterv1.Change
	for all = history.GetChanges(); history.GetNextPageToken() != ""; all = append(all, history.GetChanges()...) {
		history = changes(c.ListChanges(ctx, &rosterv1.ListChangesRequest{PageSize: 3, PageToken: history.GetNextPageToken()}))
	}
	last := all[len(all)-1]
	if len(all) != 9 || last.GetKind() != rosterv1.Change_KIND_DELETED || last.GetRevision() != gone.GetRevision() || last.GetActor() != "loopback" || last.GetUser() != nil {
		t.Errorf("%d changes, the last is %v", len(all), last)
	}
	_, err = c.ListChanges(ctx, &rosterv1.ListChangesRequest{FromRevision: 1 << 40})
	wantError(t, err, connect.CodeOutOfRange, "list the users again")
	_, err = c.ListChanges(ctx, &rosterv1.ListChangesRequest{Epoch: "another"})
	wantError(t, err, connect.CodeOutOfRange, "another history")

	export, err := c.ExportUsers(ctx, &rosterv1.ExportUsersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var exported []string
	for export.Receive() {
		for _, u := range export.Msg().GetUsers() {
			exported = append(exported, u.GetName())
		}
		if export.Msg().GetRevision() == 0 || export.Msg().GetEpoch() != gone.GetEpoch() {
			t.Errorf("exported as of %v", export.Msg())
		}
	}
	if export.Err() != nil || strings.Join(exported, " ") != "Ben Cat" {
		t.Errorf("exported %v, %v", exported, export.Err())
	}
}

// A watch tells of each change once, of users who leave its filter, and of its progress; it ends with the port.
func TestWatchUsers(t *testing.T) {
	c, p := users(t, Config{}, connect.WithGRPC())
	ctx, user := t.Context(), must[*rosterv1.User](t)
	ann := user(c.CreateUser(ctx, create(0, "Ann", "")))
	user(c.CreateUser(ctx, create(0, "Ben", "")))
	watch := func(request *rosterv1.WatchUsersRequest) func(string) {
		t.Helper()
		stream, err := c.WatchUsers(ctx, request)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stream.Close() })
		return func(want string) {
			t.Helper()
			var got string
			if stream.Receive() {
				if change := stream.Msg().GetChange(); change != nil {
					got = fmt.Sprint(change.GetKind(), " ", change.GetId(), " ", change.GetUser().GetName(), " ", change.GetRevision()-ann.GetRevision())
				} else {
					got = fmt.Sprint("progress ", stream.Msg().GetProgress().GetRevision()-ann.GetRevision())
				}
			} else {
				got = fmt.Sprint("end ", stream.Err())
			}
			if !strings.HasPrefix(got, want) {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
	}
	seldom := durationpb.New(10 * time.Minute)
	now := watch(&rosterv1.WatchUsersRequest{ProgressInterval: seldom})
	now("progress 1")
	beginning := watch(&rosterv1.WatchUsersRequest{Start: &rosterv1.WatchUsersRequest_FromBeginning{FromBeginning: true}, ProgressInterval: seldom})
	beginning("KIND_EXISTING 1 Ann 0")
	beginning("KIND_EXISTING 2 Ben 1")
	beginning("progress 1")
	from := watch(&rosterv1.WatchUsersRequest{Start: &rosterv1.WatchUsersRequest_FromRevision{FromRevision: ann.GetRevision()}, Filter: `name = "b*"`,
		ProgressInterval: durationpb.New(100 * time.Millisecond)})
	from("KIND_CREATED 2 Ben 1")
	from("progress 1")
	from("progress 1")
	user(c.UpdateUser(ctx, &rosterv1.UpdateUserRequest{User: &rosterv1.User{Id: 2, Name: "Zoe"}}))
	now("KIND_UPDATED 2 Zoe 2")
	beginning("KIND_UPDATED 2 Zoe 2")
	ended := watch(&rosterv1.WatchUsersRequest{Start: &rosterv1.WatchUsersRequest_FromRevision{FromRevision: 1 << 40}})
	ended("end out_of_range: revision 1099511627776 is in the future")
	ended = watch(&rosterv1.WatchUsersRequest{Start: &rosterv1.WatchUsersRequest_FromRevision{}, Epoch: "x"})
	ended("end out_of_range: revision 0 is of another history")
	ended = watch(&rosterv1.WatchUsersRequest{Filter: "x"})
	ended("end invalid_argument: filter: column 1")
	ended = watch(&rosterv1.WatchUsersRequest{ProgressInterval: durationpb.New(time.Millisecond)})
	ended("end invalid_argument: progress_interval")
	p.server.Drain().Close()
	now("end unavailable: this server is being restarted")
}

// An import takes all rows, or says which it does not take.
func TestImportUsers(t *testing.T) {
	c, _ := users(t, Config{}, connect.WithGRPC())
	ctx := t.Context()
	send := func(ctx context.Context, options *rosterv1.ImportOptions, rows ...*rosterv1.User) (*rosterv1.ImportUsersResponse, error) {
		stream, err := c.ImportUsers(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&rosterv1.ImportUsersRequest{Options: options})
		for _, row := range rows {
			_ = stream.Send(&rosterv1.ImportUsersRequest{Users: []*rosterv1.User{row}})
		}
		return stream.CloseAndReceive()
	}
	row := func(id int32, name, email string) *rosterv1.User { return create(id, name, email).GetUser() }
	reply, err := send(ctx, nil, row(0, "Zero", ""), row(1, "Ann", "a@b"), row(1, "Again", ""), row(2, "", ""), row(3, "Cat", "A@B"))
	if err != nil || reply.GetImported() != 2 || reply.GetCreated() != 2 || reply.GetRefused() != 3 || len(reply.GetRefusedRows()) != 3 || reply.GetRevision() == 0 {
		t.Fatalf("got %v, %v", reply, err)
	}
	for i, want := range []string{"row:3 id:1 reason:\"the id 1 came before", "row:4 id:2 reason:\"name is empty", "row:5 id:3 reason:\"the email is taken by id 1"} {
		if got := strings.Join(strings.Fields(reply.GetRefusedRows()[i].String()), " "); !strings.HasPrefix(got, want) {
			t.Errorf("refused %s, want %s", got, want)
		}
	}
	_, err = send(ctx, &rosterv1.ImportOptions{Atomic: true}, row(5, "Eve", ""), row(6, "", ""))
	wantError(t, err, connect.CodeInvalidArgument, "1 of 2 rows cannot be taken, and the import is atomic: nothing was imported; row 2, id 6: name is empty")
	_, err = send(ctx, &rosterv1.ImportOptions{Mirror: true}, row(5, "Eve", ""))
	wantError(t, err, connect.CodeInvalidArgument, "options.mirror: needs atomic")
	_, err = send(ctx, &rosterv1.ImportOptions{Mirror: true, Atomic: true})
	wantError(t, err, connect.CodeInvalidArgument, "a mirror of nothing would remove everybody")
	_, err = send(ctx, &rosterv1.ImportOptions{Mirror: true, Atomic: true, MaxRemovals: 1}, row(5, "Eve", ""))
	wantError(t, err, connect.CodeFailedPrecondition, "would remove 2 users, and max_removals is 1")
	reply, err = send(ctx, &rosterv1.ImportOptions{Mirror: true, Atomic: true, ValidateOnly: true}, row(1, "Ann", "a@b"), row(5, "Eve", ""))
	if err != nil || reply.GetImported() != 2 || reply.GetRemoved() != 1 {
		t.Errorf("the check of a mirror: %v, %v", reply, err)
	}
	// A stream that breaks off imports nothing, and another one runs at a time.
	open := func() context.CancelFunc {
		broken, cancel := context.WithCancel(ctx)
		stream, err := c.ImportUsers(broken)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&rosterv1.ImportUsersRequest{Users: []*rosterv1.User{row(9, "Lost", "")}}); err != nil {
			t.Fatal(err)
		}
		return cancel
	}
	cancel := open()
	for deadline := time.Now().Add(30 * time.Second); ; {
		_, err := send(ctx, &rosterv1.ImportOptions{ValidateOnly: true}, row(1, "Ann", "a@b"))
		if connect.CodeOf(err) == connect.CodeUnavailable && strings.Contains(err.Error(), "another import runs") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a second import: %v", err)
		}
		// The second may have been first, and then the one that stays open was refused.
		cancel()
		cancel = open()
		time.Sleep(20 * time.Millisecond)
	}
	cancel()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		reply, err = send(ctx, &rosterv1.ImportOptions{Mirror: true, Atomic: true}, row(1, "Ann", "a@b"), row(5, "Eve", ""))
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if reply.GetUnchanged() != 1 || reply.GetCreated() != 1 || reply.GetRemoved() != 1 {
		t.Errorf("a mirror after one that broke off: %v", reply)
	}
}

// Whoever may not write is refused before anything is read.
func TestWhoMayWriteUsers(t *testing.T) {
	c, p := users(t, Config{}, connect.WithGRPC())
	if _, err := c.CreateUser(t.Context(), create(1, "Ann", "")); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"CreateUser", "UpdateUser", "DeleteUser", "BatchUpdateUsers", "ListChanges", "ImportUsers"} {
		response, body := p.post(true, "/roster.v1.DirectoryService/"+method, "application/json", strings.NewReader("{}"), "X-Forwarded-For", "192.0.2.1")
		if method != "ImportUsers" && response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d %s", method, response.StatusCode, body)
		}
	}
	if response, body := p.get(true, "GET", "/roster.v1.DirectoryService/GetUser", `{"id":1}`); response.StatusCode != 200 || response.Header.Get("ETag") == "" {
		t.Errorf("GET: %d %s", response.StatusCode, body)
	}
	response, body := p.get(true, "GET", "/roster.v1.DirectoryService/ListUsers", `{"filter":"name = \"a*\""}`)
	if !strings.Contains(body, `"name":"Ann"`) {
		t.Errorf("GET: %d %s", response.StatusCode, body)
	}
	if again, _ := p.get(true, "GET", "/roster.v1.DirectoryService/ListUsers", `{"filter":"name = \"a*\""}`, "If-None-Match", response.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
		t.Errorf("the same page: %d", again.StatusCode)
	}
}
