package nearest

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/descriptorpb"
)

func TestField(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{`{"name":1}`, ``}, // the error names it
		{`{"nam":1}`, ``},
		{`{"dependency":1}`, `in the field dependency`},
		{`{"package":"a", "messageType":{}}`, `in the field messageType`},
		{"{\"package\":\"ä\",\n \"messageType\":[{\"field\":[{}, {\"options\": 5}]}]}", `in the field messageType[0].field[1].options`},
		{`{"messageType":[{},{},7]}`, `in the field messageType[2]`},
		{`{"messageType":[{"name":"a","field":[{"number":1}],"options":[]}]}`, `in the field messageType[0].options`},
		{`{"options":[]}`, `in the field options`},
		{`[]`, ``},
		{`{"options":{"deprecated":true}} {`, ``},
		{`{"` + strings.Repeat("a", 300) + `":[]}`, ``},
	} {
		err := protojson.Unmarshal([]byte(test.text), new(descriptorpb.FileDescriptorProto))
		if err == nil {
			t.Fatal(test.text, "fits")
		}
		got := Field(err, []byte(test.text)).Error()
		if test.want == "" && got != err.Error() || !strings.HasSuffix(got, test.want) {
			t.Errorf("%.80s: %s, want %s", test.text, got, test.want)
		}
	}
}

func FuzzField(f *testing.F) {
	f.Add(`{"messageType":[{"field":1}]}`)
	f.Add(`[[{]`)
	f.Fuzz(func(t *testing.T, text string) {
		_ = Field(protojson.Unmarshal([]byte(text), new(descriptorpb.FileDescriptorProto)), []byte(text))
	})
}
