package service

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"example.com/roster/directory"
	"example.com/roster/gen/go/apipb"
	"example.com/roster/server/rpc"
)

// requests are bodies of User in JSON, and whether they are read without
// protojson.
var requests = []struct {
	text  string
	quick bool
}{
	{`{"userIDs":[1,2]}`, true},
	{`{"userIDs":[]}`, true},
	{`{"userIDs":[0,-1,2147483647,-2147483648]}`, true},
	{"{\"userIDs\": [1, 2, 3]}\n", true},
	{" \t\r\n{ \"userIDs\" : [ 1 , 2 ] } ", true},
	{`{"userIDs":[` + strings.Repeat("123456,", 9999) + `7]}`, true},

	{``, false},
	{`{}`, false},
	{`null`, false},
	{`{"userIds":[1]}`, false},
	{`{"userIDs":null}`, false},
	{`{"userIDs":1}`, false},
	{`{"userIDs":["1","2"]}`, false},
	{`{"userIDs":[1.0,2e0,20E-1]}`, false},
	{`{"userIDs":[1.5]}`, false},
	{`{"userIDs":[-0]}`, false},
	{`{"userIDs":[-]}`, false},
	{`{"userIDs":[+1]}`, false},
	{`{"userIDs":[01]}`, false},
	{`{"userIDs":[-01]}`, false},
	{`{"userIDs":[00]}`, false},
	{`{"userIDs":[2147483648]}`, false},
	{`{"userIDs":[-2147483649]}`, false},
	{`{"userIDs":[3000000000]}`, false},
	{`{"userIDs":[12345678901]}`, false},
	{`{"userIDs":[99999999999999999999999]}`, false},
	{`{"userIDs":[1,2],}`, false},
	{`{"userIDs":[1,]}`, false},
	{`{"userIDs":[,1]}`, false},
	{`{"userIDs":[1 2]}`, false},
	{`{"userIDs":[1,2]`, false},
	{`{"userIDs":[1,2`, false},
	{`{"userIDs":[`, false},
	{`{"userIDs":[- 1]}`, false},
	{`{"userIDs":[1]}{}`, false},
	{`{"userIDs":[1]} x`, false},
	{`{"userIDs":[1],"userIDs":[2]}`, false},
	{`{"userIDs":[1],"name":"x"}`, false},
	{`{"user\u0049Ds":[1]}`, false},
	{`{"userIDs":[1]/**/}`, false},
	{"\ufeff" + `{"userIDs":[1]}`, false},
	{"{\"userIDs\":\v[1]}", false},
	{"{\"userIDs\":[1\x00]}", false},
	{"{\"userIDs\":[1]}\xff", false},
	{`[1,2]`, false},
}

func TestCommonRequestsAreReadQuickly(t *testing.T) {
	for _, test := range requests {
		if ids, quick := parseUserReq([]byte(test.text)); quick != test.quick {
			t.Errorf("%.60q: read quickly %v (%v), want %v", test.text, quick, ids, test.quick)
		}
	}
}

// Whatever the body is, User's request has what protojson reads in it, or its
// error.
func FuzzUserReq(f *testing.F) {
	for _, request := range requests {
		f.Add([]byte(request.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want apipb.UserReq
		wantErr := jsonCodec{}.Unmarshal(text, &want)
		var got userReq
		gotErr := jsonCodec{}.Unmarshal(text, &got)
		if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
			t.Fatalf("%q: error %v, want %v", text, gotErr, wantErr)
		}
		if wantErr == nil && (!proto.Equal(&got, &want)) {
			t.Fatalf("%q: %v, want %v", text, got.GetUserIDs(), want.GetUserIDs())
		}
	})
}

// fixed is a store with these users under the ids 0, 1, 2…
type fixed struct {
	directory.Store
	users []directory.User
}

func (f fixed) State(context.Context) (directory.State, error) {
	return directory.State{Epoch: testEpoch, Revision: 1}, nil
}

const testEpoch = "00112233445566778899aabbccddeeff"

func (f fixed) Compact(context.Context) error { return nil }

func (f fixed) Get(ctx context.Context, ids []int32) (found []directory.Record, state directory.State, err error) {
	for _, id := range ids {
		if id >= 0 && int(id) < len(f.users) {
			found = append(found, directory.Record{User: f.users[id]})
		}
	}
	state, err = f.State(ctx)
	return found, state, err
}

// post serves users and makes one call of User for all of ids. It returns the
// status and the body as it is, or as it was before gzip.
func post(t *testing.T, users []directory.User, contentType string, request []byte, header ...string) (int, string) {
	t.Helper()
	for i := range users {
		users[i].ID = int32(i)
	}
	dir, err := directory.New(t.Context(), fixed{users: users}, directory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	recorder := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/MyService/User", bytes.NewReader(request))
	r.Header.Set("Content-Type", contentType)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	user := myServiceMount(Config{Directory: dir, MaxBatch: 100_000, Log: slog.New(slog.DiscardHandler)})
	serve(user.Handler, recorder, r)
	var body io.Reader = recorder.Body
	if recorder.Header().Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(body); err != nil {
			t.Fatal(err)
		}
	}
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return recorder.Code, string(text)
}

// serve answers r as a port does, which makes a record of each call.
func serve(handler http.Handler, w http.ResponseWriter, r *http.Request) {
	c, r := rpc.Of(r)
	defer c.End()
	media, _ := rpc.RequestMediaType(r)
	c.Protocol, c.Codec = media.Protocol, media.Codec
	handler.ServeHTTP(w, r)
}

// request asks for n users, and for one that there is not.
func request(n int) []byte {
	ids := make([]string, n+1)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	return []byte(`{"userIDs":[` + strings.Join(ids, ",") + `]}`)
}

// The JSON of a reply is what protojson and json.Compact make of the message,
// to the byte.
func TestJSONRepliesAreThoseOfProtojson(t *testing.T) {
	tests := map[string][]directory.User{
		"nobody": nil,
		"one":    {{Name: "Ann", Age: 37, Email: "ann@example.com"}},
		"zeroes": {{}, {}},
		"names": {
			{Name: `"quoted" \ back/slash`, Age: 1}, {Name: "<script>&amp;", Age: -1}, {Name: "line\u2028paragraph\u2029", Age: -1 << 31},
			{Name: "👩‍👩‍👧 山田", Age: 1<<31 - 1}, {Name: "\x00\x1f\b\f\n\r\t\x7f", Email: `"a b"@example.com`}, {Name: strings.Repeat("長", 1000)},
		},
	}
	for name, users := range tests {
		t.Run(name, func(t *testing.T) {
			message := &apipb.UserReply{Message: "success"}
			for _, user := range users {
				message.Data = append(message.Data, &apipb.User{Name: user.Name, Age: user.Age, Email: user.Email})
			}
			text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(message)
			if err != nil {
				t.Fatal(err)
			}
			var want bytes.Buffer
			if err := json.Compact(&want, text); err != nil {
				t.Fatal(err)
			}
			for _, contentType := range []string{"application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8"} {
				if status, got := post(t, users, contentType, request(len(users))); status != 200 || got != want.String() {
					t.Errorf("%s: %d %s\nwant %s", contentType, status, got, &want)
				}
			}
			if status, got := post(t, users, "application/json", request(len(users)), "Accept-Encoding", "gzip"); status != 200 || got != want.String() {
				t.Errorf("gzip: %d %s\nwant %s", status, got, &want)
			}
			envelope := append([]byte{0, 0, 0, 0, byte(len(request(len(users))))}, request(len(users))...)
			for _, contentType := range []string{"application/grpc+json", "application/grpc-web+json"} {
				_, got := post(t, users, contentType, envelope)
				if len(got) < 5+want.Len() || got[5:5+want.Len()] != want.String() {
					t.Errorf("%s: %q\nwant %s", contentType, got, &want)
				}
			}
		})
	}
}

// What is not UTF-8 is a fault of the store, told to nobody.
func TestANameThatIsNotUTF8IsInternal(t *testing.T) {
	users := []directory.User{{Name: "Zo\xeb"}}
	if status, body := post(t, users, "application/json", request(1)); status != 500 || body != `{"code":"internal","message":"internal error"}` {
		t.Errorf("%d %s", status, body)
	}
}

// The limit is that of the reply as it is sent: quotes are twice as long in
// JSON, compressed or not.
func TestTheLimitOfAReplyIsThatOfItsEncoding(t *testing.T) {
	wire, err := proto.Marshal(&apipb.UserReq{UserIDs: []int32{0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	const rest = len(`{"message":"success","data":[{"name":"","age":0,"email":""}]}`)
	most := []directory.User{{Name: strings.Repeat(`"`, (rpc.MaxMessageBytes-rest)/2) + strings.Repeat("a", (rpc.MaxMessageBytes-rest)%2)}}
	if status, body := post(t, most, "application/json", request(1)); status != 200 || len(body) != rpc.MaxMessageBytes {
		t.Errorf("as long as may be: %d, %d bytes, %.100s", status, len(body), body)
	}
	over := []directory.User{{Name: most[0].Name + "a"}}
	if status, body := post(t, over, "application/proto", wire); status != 200 {
		t.Errorf("protobuf: %d %.100s", status, body)
	}
	const want = `{"code":"resource_exhausted","message":"the reply would have 4194305 bytes, the limit is 4194304 (fixed, no flag): ask for fewer ids"}`
	for _, encoding := range []string{"identity", "gzip"} {
		if status, body := post(t, over, "application/json", request(1), "Accept-Encoding", encoding); status != 429 || body != want {
			t.Errorf("JSON, %s: %d %.200s\nwant %s", encoding, status, body, want)
		}
	}
}

// Replies are encoded in memory that other calls use in turn: whoever asks gets
// their own users, in their own encoding.
func TestRepliesAreTheirCallersOwn(t *testing.T) {
	users := make([]directory.User, 300)
	for i := range users {
		users[i] = directory.User{ID: int32(i), Name: fmt.Sprintf("User %d", i), Age: int32(i), Email: strings.Repeat("e", i)}
	}
	dir, err := directory.New(t.Context(), fixed{users: users}, directory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	user := myServiceMount(Config{Directory: dir, MaxBatch: 1000, Log: slog.New(slog.DiscardHandler)})
	var callers sync.WaitGroup
	for caller := range 16 {
		callers.Go(func() {
			for call := range 200 {
				first := (caller*31 + call*7) % len(users)
				want := &apipb.UserReply{Message: "success"}
				request := &apipb.UserReq{}
				for i := range 1 + call%40 {
					u := users[(first+i)%len(users)]
					request.UserIDs = append(request.UserIDs, u.ID)
					want.Data = append(want.Data, &apipb.User{Name: u.Name, Age: u.Age, Email: u.Email})
				}
				contentType, marshal, unmarshal := "application/proto", proto.Marshal, proto.Unmarshal
				if (caller+call)%2 == 0 {
					contentType, marshal, unmarshal = "application/json", protojson.Marshal, protojson.Unmarshal
				}
				body, err := marshal(request)
				if err != nil {
					t.Error(err)
					return
				}
				recorder := httptest.NewRecorder()
				r := httptest.NewRequest(http.MethodPost, "/MyService/User", bytes.NewReader(body))
				r.Header.Set("Content-Type", contentType)
				serve(user.Handler, recorder, r)
				got := &apipb.UserReply{}
				if err := unmarshal(recorder.Body.Bytes(), got); err != nil || !proto.Equal(got, want) {
					t.Errorf("%s, %v: %v, error %v", contentType, request.GetUserIDs(), got, err)
					return
				}
			}
		})
	}
	callers.Wait()
}

// A message of no bytes is one in JSON too, if the call says so, though Connect
// does not show it to the codec.
func TestNoBytesAreNoIDs(t *testing.T) {
	for contentType, want := range map[string]string{
		"application/grpc+json":     "\x00\x00\x00\x00\x1f" + `{"message":"success","data":[]}`,
		"application/grpc-web+json": "\x00\x00\x00\x00\x1f" + `{"message":"success","data":[]}`,
		"application/grpc":          "\x00\x00\x00\x00\x09\x0a\x07success",
		"application/proto":         "\x0a\x07success",
	} {
		request := []byte("\x00\x00\x00\x00\x00")
		if contentType == "application/proto" {
			request = nil
		}
		if _, got := post(t, nil, contentType, request); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", contentType, got, want)
		}
	}
}

// counting counts how often a codec encodes.
type counting struct {
	marshaller
	n *int
}

type marshaller interface {
	connect.Codec
	MarshalAppend(dst []byte, message any) ([]byte, error)
}

func (c counting) Marshal(message any) ([]byte, error) {
	*c.n++
	return c.marshaller.Marshal(message)
}

func (c counting) MarshalAppend(dst []byte, message any) ([]byte, error) {
	*c.n++
	return c.marshaller.MarshalAppend(dst, message)
}

// A reply is somebody else's once it has been encoded, which userReply relies on.
func TestConnectEncodesAReplyOnce(t *testing.T) {
	users := make([]directory.User, 100)
	for i := range users {
		users[i] = directory.User{ID: int32(i), Name: strings.Repeat("n", 60)}
	}
	dir, err := directory.New(t.Context(), fixed{users: users}, directory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	var encoded int
	handler := newHandler(newMyService(dir, 1000), connect.WithHandlerOptions(HandlerOptions(slog.New(slog.DiscardHandler)),
		connect.WithCodec(counting{protoCodec{}, &encoded}), connect.WithCodec(counting{jsonCodec{"json"}, &encoded})))
	wire, err := proto.Marshal(&apipb.UserReq{UserIDs: make([]int32, 100)})
	if err != nil {
		t.Fatal(err)
	}
	text := request(100)
	envelope := func(message []byte) []byte {
		return append([]byte{0, 0, 0, byte(len(message) >> 8), byte(len(message))}, message...)
	}
	for contentType, body := range map[string][]byte{
		"application/proto": wire, "application/json": text,
		"application/grpc": envelope(wire), "application/grpc+json": envelope(text),
		"application/grpc-web": envelope(wire), "application/grpc-web+json": envelope(text),
	} {
		for _, encoding := range []string{"identity", "gzip"} {
			encoded = 0
			recorder := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodPost, "/MyService/User", bytes.NewReader(body))
			r.Header.Set("Content-Type", contentType)
			r.Header.Set("Accept-Encoding", encoding)
			r.Header.Set("Grpc-Accept-Encoding", encoding)
			handler.ServeHTTP(recorder, r)
			if encoded != 1 || recorder.Body.Len() < 50 {
				t.Errorf("%s, %s: encoded %d times, %d bytes", contentType, encoding, encoded, recorder.Body.Len())
			}
		}
	}
}
