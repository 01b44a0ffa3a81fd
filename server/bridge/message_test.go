package bridge

import (
	"bytes"
	"encoding/base64"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// testdataSchema is that of testdata/*.proto, as make generate builds it with buf.
func testdataSchema(t testing.TB) *schema {
	t.Helper()
	wire, err := os.ReadFile("testdata/schema.binpb")
	if err != nil {
		t.Fatal(err)
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(wire, set); err != nil {
		t.Fatal(err)
	}
	s := link(set.GetFile(), nil)
	if len(s.problems) > 0 {
		t.Fatal(s.problems)
	}
	return s
}

// formOf returns the form of the messages that a service echoes.
func formOf(t testing.TB, s *schema, service protoreflect.FullName) *form {
	t.Helper()
	found := s.services[service]
	if found == nil {
		t.Fatal("there is no", service)
	}
	return newForm(found.descriptor.Methods().Get(0).Input(), found.types, newMemory(4<<20, 4<<20), make(estimates))
}

// What callers send in JSON comes back with every field, as the JSON mapping of protobuf says, for all that
// proto2 and editions have.
func TestJSONOfProto2AndEditions(t *testing.T) {
	s := testdataSchema(t)
	for _, test := range []struct {
		name    string
		service protoreflect.FullName
		in, out string
	}{
		{"proto2: a required field alone", "bridge.test.old.Old", `{"name":"a"}`, `{"name":"a","row":[],"byNumber":{},"byTruth":{},"byName":{}}`},
		{"proto2: 64 bits, as strings", "bridge.test.old.Old", `{"name":"a","long":-9223372036854775808,"fixed":"18446744073709551615"}`,
			`{"name":"a","long":"-9223372036854775808","fixed":"18446744073709551615","row":[],"byNumber":{},"byTruth":{},"byName":{}}`},
		{"proto2: bytes, in base64 or its form for URLs", "bridge.test.old.Old", `{"name":"a","raw":"-_8"}`, `{"name":"a","raw":"+/8=","row":[],"byNumber":{},"byTruth":{},"byName":{}}`},
		{"proto2: an enum by its name or its number", "bridge.test.old.Old", `{"name":"a","color":2}`, `{"name":"a","color":"COLOR_BLUE","row":[],"byNumber":{},"byTruth":{},"byName":{}}`},
		{"proto2: groups", "bridge.test.old.Old", `{"name":"a","part":{"serial":"1","colors":["COLOR_RED"]},"row":[{"text":"x"},{}]}`,
			`{"name":"a","part":{"serial":"1","colors":["COLOR_RED"]},"row":[{"text":"x"},{}],"byNumber":{},"byTruth":{},"byName":{}}`},
		{"proto2: one of several", "bridge.test.old.Old", `{"name":"a","word":""}`, `{"name":"a","row":[],"word":"","byNumber":{},"byTruth":{},"byName":{}}`},
		{"proto2: keys of maps", "bridge.test.old.Old", `{"name":"a","byNumber":{"-1":"LEVEL_HIGH"},"byTruth":{"true":"x"},"byName":{"k":"AA=="}}`,
			`{"name":"a","row":[],"byNumber":{"-1":"LEVEL_HIGH"},"byTruth":{"true":"x"},"byName":{"k":"AA=="}}`},
		{"proto2: extensions", "bridge.test.old.Old", `{"name":"a","[bridge.test.old.priority]":"9","[bridge.test.old.marks]":["COLOR_BLUE"],"[bridge.test.old.Note.note]":{"at":"-1"}}`,
			`{"name":"a","row":[],"byNumber":{},"byTruth":{},"byName":{},"[bridge.test.old.Note.note]":{"at":"-1"},"[bridge.test.old.marks]":["COLOR_BLUE"],"[bridge.test.old.priority]":"9"}`},
		{"proto2: an Any of a type of another file of the schema", "bridge.test.old.Old", `{"name":"a","any":{"@type":"type.googleapis.com/bridge.test.edition.Inner","big":"5"}}`,
			`{"name":"a","row":[],"byNumber":{},"byTruth":{},"byName":{},"any":{"@type":"type.googleapis.com/bridge.test.edition.Inner","big":"5"}}`},
		{"proto2: an Any of a well-known type", "bridge.test.old.Old", `{"name":"a","any":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"3s"}}`,
			`{"name":"a","row":[],"byNumber":{},"byTruth":{},"byName":{},"any":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"3s"}}`},
		{"proto2: what is no number", "bridge.test.old.Old", `{"name":"a","ratio":"-Infinity"}`, `{"name":"a","row":[],"byNumber":{},"byTruth":{},"byName":{},"ratio":"-Infinity"}`},
		{"proto2: a field with a name of its own in JSON", "bridge.test.old.Old", `{"name":"a","other":"x"}`, `{"name":"a","row":[],"byNumber":{},"byTruth":{},"byName":{},"other":"x"}`},
		{"proto2: a field by its name in the proto", "bridge.test.old.Old", `{"name":"a","renamed_field":"x"}`, `{"name":"a","row":[],"byNumber":{},"byTruth":{},"byName":{},"other":"x"}`},
		{"edition: nothing", "bridge.test.edition.Edition", `{}`, `{"implicit":"","expanded":[]}`},
		{"edition: presence", "bridge.test.edition.Edition", `{"explicit":""}`, `{"explicit":"","implicit":"","expanded":[]}`},
		{"edition: a delimited message", "bridge.test.edition.Edition", `{"delimited":{"big":1}}`, `{"implicit":"","delimited":{"big":"1"},"expanded":[]}`},
		{"edition: enums, open ones by any number", "bridge.test.edition.Edition", `{"expanded":[1,2],"closed":"CLOSED_ONE","open":5}`, `{"implicit":"","expanded":[1,2],"closed":"CLOSED_ONE","open":5}`},
		{"edition: well-known types", "bridge.test.edition.Edition", `{"at":"2024-01-02T03:04:05.006Z","for":"1.5s","anyJson":{"a":[null,1,{"b":true}]},"mask":"a.b,cD","wrapped":"0"}`,
			`{"implicit":"","expanded":[],"at":"2024-01-02T03:04:05.006Z","for":"1.500s","anyJson":{"a":[null,1,{"b":true}]},"mask":"a.b,cD","wrapped":"0"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := formOf(t, s, test.service)
			wire, err := f.fromJSON([]byte(test.in))
			if err != nil {
				t.Fatal(err)
			}
			text, err := f.toJSON(mem.BufferSlice{mem.SliceBuffer(wire)})
			if err != nil || string(text) != test.out {
				t.Errorf("%s became\n%s, want\n%s (%v)", test.in, text, test.out, err)
			}
		})
	}
}

// A group and a delimited message are groups on the wire, and an expanded list is one field for each value.
func TestTheWireOfGroupsAndExpandedLists(t *testing.T) {
	s := testdataSchema(t)
	for _, test := range []struct {
		service protoreflect.FullName
		in      string
		want    []byte
	}{
		{"bridge.test.edition.Edition", `{"delimited":{"big":1}}`, []byte{3<<3 | 3, 1 << 3, 1, 3<<3 | 4}},
		{"bridge.test.edition.Edition", `{"expanded":[1,2]}`, []byte{4 << 3, 1, 4 << 3, 2}},
		{"bridge.test.old.Old", `{"name":"","part":{"serial":3}}`, []byte{6<<3 | 3, 1 << 3, 3, 6<<3 | 4}},
	} {
		// The fields of a message may be in any order.
		if wire, err := formOf(t, s, test.service).fromJSON([]byte(test.in)); err != nil || !bytes.Contains(wire, test.want) {
			t.Errorf("%s is %x, which lacks %x (%v)", test.in, wire, test.want, err)
		}
	}
}

// JSON that does not fit is refused, and the error says what is wrong where.
func TestJSONThatDoesNotFit(t *testing.T) {
	s := testdataSchema(t)
	const old, edition = "bridge.test.old.Old", "bridge.test.edition.Edition"
	for _, test := range []struct {
		service  protoreflect.FullName
		in, want string
	}{
		{old, `{}`, `required field bridge.test.old.Item.name not set`},
		{old, `{"nam":"a"}`, `unknown field "nam": do you mean "name"?`},
		{old, `{"part":{"seral":1}}`, `unknown field "seral": do you mean "serial"?`},
		{old, `{"row":[{"texts":""}]}`, `unknown field "texts": do you mean "text"?`},
		{edition, `{"delimited":{"bgi":1}}`, `unknown field "bgi": do you mean "big"?`},
		{old, `{"[bridge.test.old.nothing]":1}`, `unknown field "[bridge.test.old.nothing]"`},
		{old, `{"name":1}`, `invalid value for string field name: 1`},
		{old, `{"long":"x"}`, `invalid value for int64 field long: "x"`},
		{old, `{"long":9223372036854775808}`, `invalid value for int64 field long`},
		{old, `{"color":"COLOR_NONE"}`, `invalid value for enum field color: "COLOR_NONE"`},
		{old, `{"raw":"*"}`, `invalid value for bytes field raw: "*"`},
		{old, `{"byNumber":{"x":"LEVEL_LOW"}}`, `invalid value for int64 key: "x"`},
		{old, `{"number":1,"word":"a"}`, `oneof bridge.test.old.Item.choice is already set`},
		{old, `{"name":"a","name":"b"}`, `duplicate field "name"`},
		{old, `{"any":{"@type":"type.googleapis.com/no.Such"}}`, `unable to resolve "type.googleapis.com/no.Such"`},
		{edition, `{"at":"yesterday"}`, `invalid google.protobuf.Timestamp value "yesterday"`},
		{edition, `{"expanded":1}`, `unexpected token 1: in the field expanded`},
		{old, `{"name":"a","row":[{},{"text":"b"},7]}`, `in the field row[2]`},
		{edition, `[]`, `unexpected token [`},
		{edition, `{"explicit":"a"`, `unexpected`},
		{edition, ``, `an empty body is not JSON: send {} for an empty Item`},
		{edition, strings.Repeat(`{"nested":`, 200) + `{}` + strings.Repeat(`}`, 200), `exceeded max recursion depth`},
	} {
		_, err := formOf(t, s, test.service).fromJSON([]byte(test.in))
		// protojson has a space of either kind after its prefix, so that nobody relies on the text.
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "\u00a0", " "), test.want) {
			t.Errorf("%.80s: %v, want %s", test.in, err, test.want)
		}
	}
}

// anyWith is a bridge.test.old.Item with an Any of the type that url names.
func anyWith(url string, value []byte) []byte {
	inner := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), url)
	inner = protowire.AppendBytes(protowire.AppendTag(inner, 2, protowire.BytesType), value)
	item := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "a")
	return protowire.AppendBytes(protowire.AppendTag(item, 13, protowire.BytesType), inner)
}

// A message in an Any takes as much memory as it does by itself, also one of a type that nothing but an Any has.
func TestWhatIsInAnAnyIsEstimated(t *testing.T) {
	s := testdataSchema(t)
	outer := formOf(t, s, "bridge.test.old.Old")
	many := bytes.Repeat([]byte{7<<3 | 3, 7<<3 | 4}, 10_000) // empty rows
	alone, _ := outer.inJSON(many)
	if within, _ := outer.inJSON(anyWith("type.googleapis.com/bridge.test.old.Item", many)); within < alone {
		t.Errorf("%d bytes in an Any, %d without", within, alone)
	}
	other := formOf(t, s, "bridge.test.edition.Edition")
	many = bytes.Repeat([]byte{12<<3 | 2, 0}, 10_000)
	alone, _ = other.inJSON(many)
	if within, _ := outer.inJSON(anyWith("type.googleapis.com/bridge.test.edition.Item", many)); within < alone {
		t.Errorf("%d bytes of another type in an Any, %d without", within, alone)
	}
}

// A reply that has no form in JSON is refused, with its type and the reason.
func TestAReplyThatHasNoFormInJSON(t *testing.T) {
	s := testdataSchema(t)
	anyOf := func(url string) []byte { return anyWith(url, nil) }
	anys := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "a")
	for range 60 { // each is two messages
		anys = anyWith("type.googleapis.com/bridge.test.old.Item", anys)
	}
	nested := []byte(nil)
	for range 150 {
		nested = protowire.AppendBytes(protowire.AppendTag(nil, 12, protowire.BytesType), nested)
	}
	for _, test := range []struct {
		name    string
		service protoreflect.FullName
		wire    []byte
		want    string
	}{
		{"no protobuf", "bridge.test.edition.Edition", []byte{0xff}, "the server's reply is not a bridge.test.edition.Item in protobuf"},
		{"no UTF-8", "bridge.test.edition.Edition", []byte{1<<3 | 2, 1, 0xff}, "invalid UTF-8"},
		{"nested too deep", "bridge.test.edition.Edition", nested, "nested more than 100 deep"},
		{"an Any in an Any in an Any …", "bridge.test.old.Old", anys, "nested more than 100 deep"},
		{"a required field is missing", "bridge.test.old.Old", nil, "required field bridge.test.old.Item.name not set"},
		{"an Any of an unknown type", "bridge.test.old.Old", anyOf("type.googleapis.com/no.Such"), `unable to resolve "type.googleapis.com/no.Such"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			text, err := formOf(t, s, test.service).toJSON(mem.BufferSlice{mem.SliceBuffer(test.wire)})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s, %v, want %s; the reply: %s", text, err, test.want, base64.StdEncoding.EncodeToString(test.wire))
			}
		})
	}
}
