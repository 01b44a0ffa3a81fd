package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"example.com/roster/directory"
	"example.com/roster/gen/go/apipb"
	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/server/rpc"
)

// What is put together of users that were encoded once is, to the byte, what protobuf's own encoders
// make of the whole reply each time. The seeds are what JSON treats in ways of its own, and bounds;
// many of them no Store would let in.
func FuzzEncodings(f *testing.F) {
	for _, name := range []string{
		"", "Ann", "Nia Müller", "山田太郎", "👩‍👩‍👧", `"`, `\`, `\"`, `C:\Users\n`, "<b>&amp;</b>", "a/b", "\u2028\u2029\u0085",
		"\x00", "\x01\x1f", "\b\f\n\r\t\v", "\x7f", "tab\tin the middle", "end\n", "\xff", "a\xc3", "\xed\xa0\x80", "\ufffd", "\ufeffBOM",
		`","age":1}`, strings.Repeat("n", directory.MaxNameBytes), strings.Repeat(`"`, 1000),
	} {
		f.Add(name, int32(37), "someone@example.com", int32(9))
		f.Add("Ann", int32(0), name, int32(-1))
		f.Add(name, int32(-1<<31), name, int32(1<<31-1))
		f.Add(name, int32(1<<31-1), "", int32(-1<<31))
	}
	f.Fuzz(func(t *testing.T, name string, age int32, email string, unknown int32) {
		users := []directory.User{{ID: 0, Name: name, Age: age, Email: email}, {ID: 1, Name: "Ben", Email: email}}
		frozen := &apipb.UserReply{Message: "success"}
		batch := &rosterv1.BatchGetUsersResponse{}
		for _, u := range users {
			frozen.Data = append(frozen.Data, &apipb.User{Name: u.Name, Age: u.Age, Email: u.Email})
			record := recordOf(u)
			batch.Users = append(batch.Users, userMessage(&record, directory.Etag(testEpoch, &record)))
		}
		ids := []int32{0, 1}
		if unknown < 0 || unknown > 1 {
			ids = []int32{0, unknown, 1, 77}
			batch.UnknownIds = []int32{unknown, 77}
			if unknown == 77 {
				batch.UnknownIds = batch.UnknownIds[:1]
			}
		}
		dir, err := directory.New(t.Context(), timed{fixed{users: users}}, directory.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		mine, theirs := newMyService(dir, 10), newDirectoryService(dir, 10)
		for _, codec := range []rpc.Codec{rpc.Proto, rpc.JSON} {
			c, r := rpc.Of(httptest.NewRequestWithContext(t.Context(), "POST", "/", nil))
			c.Codec = codec
			request := &userReq{}
			request.UserIDs = ids
			reply, err := mine.User(r.Context(), request)
			compare(t, codec, frozen, reply, err, func() int { return reply.encodedSize(codec) })
			batchReply, err := theirs.BatchGetUsers(r.Context(), &rosterv1.BatchGetUsersRequest{Ids: append(ids, ids...)})
			compare(t, codec, batch, batchReply, err, func() int { return batchReply.encodedSize(codec) })
		}
		entries, err := dir.Entries(t.Context(), nil, []int32{0})
		if err == nil && *entries[0].User() != users[0] {
			t.Errorf("%+q became %+q", users[0], *entries[0].User())
		}
	})
}

// timed is a fixed store whose users have times and revisions.
type timed struct{ fixed }

func (f timed) Get(ctx context.Context, ids []int32) ([]directory.Record, directory.State, error) {
	records, state, err := f.fixed.Get(ctx, ids)
	for i := range records {
		records[i] = recordOf(records[i].User)
	}
	return records, state, err
}

// recordOf gives a user times and a revision that differ from user to user.
func recordOf(user directory.User) directory.Record {
	updated := time.UnixMicro(1_700_000_000_000_000 + int64(user.Age)).UTC()
	return directory.Record{User: user, Created: updated.Truncate(time.Second), Updated: updated, Revision: int64(user.ID) + 7}
}

// compare holds a reply in a codec to what protobuf's own encoders make of message.
func compare(t *testing.T, codec rpc.Codec, message proto.Message, reply encoder, err error, size func() int) {
	t.Helper()
	want, wantErr := proto.Marshal(message)
	if wantErr == nil && codec == rpc.JSON {
		var text []byte
		text, wantErr = protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(message)
		var compact bytes.Buffer
		if wantErr == nil {
			wantErr = json.Compact(&compact, text)
		}
		want = compact.Bytes()
	}
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%v of %v: %v, protobuf says %v", codec, message, err, wantErr)
	}
	if err != nil {
		return
	}
	counted := size()
	encode := reply.AppendProto
	if codec == rpc.JSON {
		encode = reply.AppendJSON
	}
	got, err := encode([]byte("before "))
	if err != nil || string(got) != "before "+string(want) {
		t.Errorf("%v %q\nwant %q", codec, got, want)
	}
	if counted != len(want) {
		t.Errorf("%v: %d bytes were counted before, it has %d: %q", codec, counted, len(want), want)
	}
}

// A user that cannot be encoded is an error of the calls that ask for it, and of no other.
func TestAUserThatCannotBeEncoded(t *testing.T) {
	dir, err := directory.New(t.Context(), fixed{users: []directory.User{{ID: 0, Name: "Ann"}, {ID: 1, Name: "Zo\xeb"}}}, directory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	service := newMyService(dir, 10)
	look := func(ids ...int32) error {
		request := &userReq{}
		request.UserIDs = ids
		_, err := service.User(t.Context(), request)
		return err
	}
	if err := look(1); err == nil || !strings.Contains(err.Error(), "encode user 1") {
		t.Errorf("its name is not UTF-8: %v", err)
	}
	if err := look(0); err != nil {
		t.Errorf("another user: %v", err)
	}
}

// Two servers on one directory keep each user once.
func TestTwoServersShareTheRenderings(t *testing.T) {
	dir, err := directory.New(t.Context(), fixed{}, directory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	first, second := newMyService(dir, 10), newMyService(dir, 10)
	other := newDirectoryService(dir, 10)
	if first.renderings != second.renderings || first.renderings == other.renderings {
		t.Errorf("renderings %v, %v and %v", first.renderings, second.renderings, other.renderings)
	}
}

var errRendering = errors.New("no such user can be drawn")

func TestARenderingThatFails(t *testing.T) {
	dir, err := directory.New(t.Context(), fixed{users: []directory.User{{ID: 0, Name: "Ann"}}}, directory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	dir.Render("failing", func(dst []byte, _ *directory.Record, _ string) ([]byte, error) {
		return dst, fmt.Errorf("drawing: %w", errRendering)
	})
	if _, err := dir.Entries(t.Context(), nil, []int32{0}); !errors.Is(err, errRendering) {
		t.Errorf("got %v, want %v", err, errRendering)
	}
}

// A method that is mounted and that nobody answers is not answered by another one.
func TestNoMethodAnswersForAnother(t *testing.T) {
	dir, err := directory.New(t.Context(), fixed{}, directory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, mount := range Mounts(Config{Directory: dir, MaxBatch: 10, MaxWatches: 10, Log: slog.New(slog.DiscardHandler)}) {
		r := httptest.NewRequest("POST", "/"+string(mount.Service.FullName())+"/Other", strings.NewReader("{}"))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		serve(mount.Handler, w, r)
		if w.Code == 200 {
			t.Errorf("%s answers %s", mount.Service.FullName(), w.Body)
		}
	}
}
