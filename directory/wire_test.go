package directory

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"example.com/roster/gen/go/apipb"
)

// What a user is encoded as once is, to the byte, what protobuf's own encoders
// make of it each time. The seeds are what JSON treats in ways of its own, and
// bounds; many of them no Store would let in.
func FuzzEncodings(f *testing.F) {
	for _, name := range []string{
		"", "Ann", "Nia Müller", "山田太郎", "👩‍👩‍👧", `"`, `\`, `\"`, `C:\Users\n`, "<b>&amp;</b>", "a/b", "\u2028\u2029\u0085",
		"\x00", "\x01\x1f", "\b\f\n\r\t\v", "\x7f", "tab\tin the middle", "end\n", "\xff", "a\xc3", "\xed\xa0\x80", "\ufffd", "\ufeffBOM",
		`","age":1}`, strings.Repeat("n", MaxNameBytes), strings.Repeat(`"`, 1000),
	} {
		f.Add(name, int32(37), "someone@example.com")
		f.Add("Ann", int32(0), name)
		f.Add(name, int32(-1<<31), name)
		f.Add(name, int32(1<<31-1), "")
	}
	f.Fuzz(func(t *testing.T, name string, age int32, email string) {
		user := User{ID: 7, Name: name, Age: age, Email: email}
		message := &apipb.User{Name: name, Age: age, Email: email}
		text, want := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(message)
		e, err := newEntry(&user)
		if (err == nil) != (want == nil) {
			t.Fatalf("%+q: %v, protojson says %v", user, err, want)
		}
		if err != nil {
			return
		}
		if e.user != user {
			t.Errorf("%+q became %+q", user, e.user)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, text); err != nil {
			t.Fatal(err)
		}
		if got := e.encoded[jsonForm]; got != compact.String()+"," {
			t.Errorf("JSON %s\nwant %s,", got, &compact)
		}
		element, err := proto.Marshal(&apipb.UserReply{Data: []*apipb.User{message}})
		if err != nil {
			t.Fatal(err)
		}
		if got := e.encoded[wireForm]; got != string(element) {
			t.Errorf("wire %q\nwant %q", got, element)
		}
	})
}
