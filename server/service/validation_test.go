package service

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/directory"
	rosterv1 "example.com/roster/gen/go/roster/v1"
)

func validator(t testing.TB, messages ...proto.Message) validation {
	t.Helper()
	v, err := protovalidate.New(protovalidate.WithMessages(messages...), protovalidate.WithDisableLazy())
	if err != nil {
		t.Fatal(err)
	}
	return validation{func() (protovalidate.Validator, error) { return v, nil }}
}

// violations returns the violations in the BadRequest of an error.
func violations(t *testing.T, err error) []*errdetails.BadRequest_FieldViolation {
	t.Helper()
	refused, ok := err.(*connect.Error)
	if !ok || refused.Code() != connect.CodeInvalidArgument || len(refused.Details()) != 1 {
		t.Fatalf("got %#v", err)
	}
	value, err := refused.Details()[0].Value()
	if err != nil {
		t.Fatal(err)
	}
	return value.(*errdetails.BadRequest).GetFieldViolations()
}

func TestWhatARefusalSays(t *testing.T) {
	rules := validator(t, &rosterv1.BatchGetUsersRequest{}, &rosterv1.BatchGetUsersResponse{})
	ann := func(change func(*rosterv1.User)) *rosterv1.BatchGetUsersResponse {
		user := &rosterv1.User{Id: 1, Name: "Ann", Age: 30, Email: "ann@example.com"}
		change(user)
		return &rosterv1.BatchGetUsersResponse{Users: []*rosterv1.User{{Name: "Ben"}, user}}
	}
	tests := []struct {
		message proto.Message
		want    string
		reason  string
	}{
		{&rosterv1.BatchGetUsersRequest{}, "ids: must contain at least 1 item(s), has 0", "REPEATED_MIN_ITEMS"},
		{&rosterv1.BatchGetUsersRequest{Ids: make([]int32, 10_001)}, "ids: must contain no more than 10000 item(s), has 10001", "REPEATED_MAX_ITEMS"},
		{ann(func(u *rosterv1.User) { u.Age = -1 }), "users[1].age: must be greater than or equal to 0 and less than or equal to 150, is -1", "INT32_GTE_LTE"},
		{ann(func(u *rosterv1.User) { u.Name = "" }), "users[1].name: must be at least 1 bytes, is empty", "STRING_MIN_BYTES"},
		{ann(func(u *rosterv1.User) { u.Name = strings.Repeat("ü", 300) }), "users[1].name: must be at most 256 bytes, has 600 bytes", "STRING_MAX_BYTES"},
		{ann(func(u *rosterv1.User) { u.Name = "A\x1b[2J" }), `users[1].name: must not contain a control, invisible or direction-changing character, nor U+FFFD, is "A\x1b[2J"`, "USER_NAME_CHARACTERS"},
		{ann(func(u *rosterv1.User) { u.Name = "  " }), `users[1].name: must have a visible character, is "  "`, "USER_NAME_VISIBLE"},
		{ann(func(u *rosterv1.User) { u.Email = "ann" }), `users[1].email: must be one e-mail address, such as ann@example.com, is "ann"`, "USER_EMAIL_ADDRESS"},
		{ann(func(u *rosterv1.User) { u.Email = "a@x.org;b@x.org" }), `users[1].email: must be one e-mail address, such as ann@example.com, is "a@x.org;b@x.org"`, "USER_EMAIL_ADDRESS"},
	}
	for _, test := range tests {
		err := rules.check(test.message)
		told := violations(t, err)
		if len(told) != 1 || told[0].GetField()+": "+told[0].GetDescription() != test.want || told[0].GetReason() != test.reason {
			t.Errorf("got %v, want %s %s", told, test.want, test.reason)
		}
		if text := err.(*connect.Error).Message(); text != test.want {
			t.Errorf("the text is %q, want %q", text, test.want)
		}
	}
	for _, message := range []proto.Message{
		&rosterv1.BatchGetUsersRequest{Ids: []int32{-1, 0, 1}},
		&rosterv1.BatchGetUsersRequest{Ids: make([]int32, 10_000)},
		ann(func(u *rosterv1.User) { u.Email = "" }),
		ann(func(u *rosterv1.User) { u.Age = 0 }),
	} {
		if err := rules.check(message); err != nil {
			t.Errorf("%.100v: %v", message, err)
		}
	}
}

// The rules in the proto are those of directory.Normalize.
func TestTheRulesAreTheDirectorys(t *testing.T) {
	rules := validator(t, &rosterv1.User{})
	compare := func(user directory.User) {
		t.Helper()
		_, ours := directory.Normalize(user)
		theirs := rules.check(&rosterv1.User{Id: user.ID, Name: user.Name, Age: user.Age, Email: user.Email})
		if (ours == nil) != (theirs == nil) {
			t.Errorf("%+q: directory says %v, the proto %v", user, ours, theirs)
		}
	}
	long := strings.Repeat("x", 63)
	for _, age := range []int32{-1 << 31, -1, 0, 1, 149, 150, 151, 1<<31 - 1} {
		compare(directory.User{ID: 1, Name: "A", Age: age})
	}
	for _, name := range []string{"", " ", "A", " A ", "Ann Lee", strings.Repeat("x", 256), strings.Repeat("x", 257),
		strings.Repeat("x", 256) + " ", strings.Repeat("é", 128), strings.Repeat("é", 129)} {
		compare(directory.User{ID: 1, Name: name})
	}
	for _, email := range []string{"", " ", "@", "a@b", " a@b\n", "ab", "a@", "@b", "a@b@c", "a@x;b@x", "a@x b@x", "a..@b", "a@b.", "a@.b", "a@b..c",
		"a@-b", "a@b-", "a@b-c", "a@" + long, "a@" + long + " ", "a@" + long + "x", "a@c." + long + "x.b", "a@" + long + "." + long, "a" + long + long + "@b",
		strings.Repeat("x", 318) + "@b", strings.Repeat("x", 319) + "@b"} {
		compare(directory.User{ID: 1, Name: "A", Email: email})
	}
	// Each character in each place: all of the basic plane below its ideographs, and pieces of the rest.
	for r := rune(0); r < 0xe1000; r++ {
		if r == 0x3400 {
			r = 0xd7a0
		}
		if r == 0xd800 {
			r = 0xe000 // surrogates are no characters
		}
		if r == 0xe010 {
			r = 0xf8f0
		}
		if r == 0x10100 {
			r = 0xe0000
		}
		compare(directory.User{ID: 1, Name: string(r)})
		compare(directory.User{ID: 1, Name: "A" + string(r) + "B", Email: "a" + string(r) + "@b"})
		compare(directory.User{ID: 1, Name: "A" + string(r), Email: "a@b" + string(r)})
		compare(directory.User{ID: 1, Name: "A", Email: "a@b" + string(r) + "c"})
	}
}

// However much is wrong with a request, the error fits into the trailers that grpcio accepts.
func TestARefusalIsSmall(t *testing.T) {
	rules := validator(t, &rosterv1.BatchGetUsersResponse{})
	for _, name := range []string{"", "A\n", strings.Repeat("\x00", 40), strings.Repeat("ü\n", 50), strings.Repeat("\n", 70_000)} {
		message := &rosterv1.BatchGetUsersResponse{}
		for range 10_000 {
			message.Users = append(message.Users, &rosterv1.User{Name: name, Age: -1 << 31, Email: name + "\x01"})
		}
		err := rules.check(message).(*connect.Error)
		told := violations(t, err)
		if len(told) < 3 || len(told) > maxViolations {
			t.Errorf("%d violations are told", len(told))
		}
		if !strings.Contains(err.Message(), "; and ") || !strings.HasSuffix(err.Message(), " more") {
			t.Errorf("the text does not say that there are more: %s", err.Message())
		}
		if bytes := onTheWire(t, err); bytes > 7<<10 {
			t.Errorf("%.10q: %d bytes of trailers", name, bytes)
		}
	}
}

// onTheWire returns how many bytes the trailers of an error have in gRPC, as HTTP/2 counts them.
func onTheWire(t *testing.T, err *connect.Error) int {
	t.Helper()
	s := &status.Status{Code: int32(err.Code()), Message: err.Message()}
	for _, detail := range err.Details() {
		value, failed := detail.Value()
		if failed != nil {
			t.Fatal(failed)
		}
		packed, failed := anypb.New(value)
		if failed != nil {
			t.Fatal(failed)
		}
		s.Details = append(s.Details, packed)
	}
	data, failed := proto.Marshal(s)
	if failed != nil {
		t.Fatal(failed)
	}
	return len("grpc-message") + len(url.PathEscape(err.Message())) + 32 +
		len("grpc-status-details-bin") + base64.RawStdEncoding.EncodedLen(len(data)) + 32
}

func TestBatchGetUsers(t *testing.T) {
	store := &byID{users: []directory.User{{ID: 3, Name: "Cat"}, {ID: -1, Name: "Ann", Age: 30, Email: "a@b"}, {ID: 0, Name: "Ben"}}}
	dir, err := directory.New(t.Context(), store, directory.Config{PollInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	service := newDirectoryService(dir, 10)
	tests := []struct {
		ids, users, unknown []int32
	}{
		{[]int32{3, -1, 0}, []int32{3, -1, 0}, nil},
		{[]int32{0, 0, 3, 0}, []int32{0, 3}, nil},
		{[]int32{7, 3, 8, -1, 7, 9}, []int32{3, -1}, []int32{7, 8, 9}},
		{[]int32{7}, nil, []int32{7}},
	}
	for _, test := range tests {
		reply, err := service.BatchGetUsers(t.Context(), &rosterv1.BatchGetUsersRequest{Ids: test.ids})
		if err != nil {
			t.Fatal(err)
		}
		wire, _ := reply.AppendProto(nil)
		response := &rosterv1.BatchGetUsersResponse{}
		if err := proto.Unmarshal(wire, response); err != nil {
			t.Fatal(err)
		}
		var found []int32
		for _, user := range response.GetUsers() {
			found = append(found, user.GetId())
		}
		if !slices.Equal(found, test.users) || !slices.Equal(response.GetUnknownIds(), test.unknown) {
			t.Errorf("%v: users %v, unknown %v", test.ids, found, response.GetUnknownIds())
		}
	}
	_, err = service.BatchGetUsers(t.Context(), &rosterv1.BatchGetUsersRequest{Ids: make([]int32, 11)})
	if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "at most 10 (--max-batch)") {
		t.Errorf("over the batch limit: %v", err)
	}
}

// byID is a store of a few users.
type byID struct {
	directory.Store
	users []directory.User
}

func (f *byID) State(context.Context) (directory.State, error) {
	return directory.State{Epoch: "e", Revision: 1}, nil
}

func (f *byID) Get(ctx context.Context, ids []int32) (found []directory.Record, state directory.State, err error) {
	for _, user := range f.users {
		if slices.Contains(ids, user.ID) {
			found = append(found, directory.Record{User: user})
		}
	}
	state, err = f.State(ctx)
	return found, state, err
}

// The messages of a stream are validated too.
func TestAMessageOfAStreamIsHeldToTheRules(t *testing.T) {
	const procedure = "/test.Service/Stream"
	handler := connect.NewClientStreamHandlerSimple(procedure,
		func(_ context.Context, stream *connect.ClientStream[rosterv1.BatchGetUsersRequest]) (*emptypb.Empty, error) {
			for stream.Receive() {
			}
			return &emptypb.Empty{}, stream.Err()
		}, HandlerOptions(slog.New(slog.DiscardHandler)), connect.WithInterceptors(validator(t, &rosterv1.BatchGetUsersRequest{})))
	server := httptest.NewServer(handler)
	defer server.Close()
	stream := connect.NewClient[rosterv1.BatchGetUsersRequest, emptypb.Empty](server.Client(), server.URL+procedure).CallClientStream(t.Context())
	_ = stream.Send(&rosterv1.BatchGetUsersRequest{Ids: []int32{1}})
	_ = stream.Send(&rosterv1.BatchGetUsersRequest{})
	_, err := stream.CloseAndReceive()
	if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "ids: must contain at least 1 item(s), has 0") {
		t.Errorf("got %v", err)
	}
}

// BenchmarkValidation measures what the rules cost a call.
func BenchmarkValidation(b *testing.B) {
	rules := validator(b, &rosterv1.BatchGetUsersRequest{}, &rosterv1.BatchGetUsersResponse{})
	var users rosterv1.BatchGetUsersResponse
	for i := range int32(100) {
		users.Users = append(users.Users, &rosterv1.User{Id: i, Name: fmt.Sprintf("User Number %d", i), Age: 30, Email: "user@example.com"})
	}
	for _, message := range []proto.Message{
		&rosterv1.BatchGetUsersRequest{Ids: make([]int32, 2)},
		&rosterv1.BatchGetUsersRequest{Ids: make([]int32, 10_000)},
		&users,
	} {
		b.Run(fmt.Sprintf("%s of %d bytes", message.ProtoReflect().Descriptor().Name(), proto.Size(message)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := rules.check(message); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The rules in the proto compile; otherwise every request of the service would fail.
func TestTheRulesCompile(t *testing.T) {
	service := rosterv1.File_roster_v1_directory_proto.Services().ByName("DirectoryService")
	if err := newValidation(service).check(&rosterv1.BatchGetUsersRequest{Ids: []int32{1}}); err != nil {
		t.Error(err)
	}
}

// BenchmarkRules measures what compiling the rules costs the first request.
func BenchmarkRules(b *testing.B) {
	service := rosterv1.File_roster_v1_directory_proto.Services().ByName("DirectoryService")
	for b.Loop() {
		if _, err := newValidation(service).validator(); err != nil {
			b.Fatal(err)
		}
	}
}
