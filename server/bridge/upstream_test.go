package bridge

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// What is said of processes with different schemas is the same each time, else the services would be mounted
// again and again. Callers read no addresses in it.
func TestWhatDiffersBetweenProcessesIsSaidAlike(t *testing.T) {
	schemaOf := func(field string, services ...string) *schema {
		files := []*descriptorpb.FileDescriptorProto{file("a.proto", nil, map[string][]string{"A": {field}}, "")}
		for _, name := range services {
			files = append(files, file(name+".proto", nil, nil, name, "Do"))
		}
		return link(files, nil)
	}
	const one, two = "x", "y"
	broken := schemaOf(one)
	broken.problems["p.Broken"] = errors.New("does not link")
	schemas := map[string]*schema{
		"10.0.0.1:1": schemaOf(one, "S"), "10.0.0.2:1": schemaOf(two, "S"), "10.0.0.3:1": schemaOf(one, "S", "T"), "10.0.0.4:1": broken,
	}
	first := offersOf(schemas)
	for range 50 {
		for name, o := range offersOf(schemas) {
			if o != first[name] {
				t.Fatalf("%+v, and then %+v", first[name], o)
			}
		}
	}
	for name, want := range map[protoreflect.FullName][2]string{
		"p.S":      {"p.A differs (x (string = 1) is missing, y (string = 1) is new)", "10.0.0.1:1 and 10.0.0.2:1"},
		"p.T":      {"not every process has it", "10.0.0.3:1 has it, 10.0.0.1:1 does not"},
		"p.Broken": {"", ""},
	} {
		if o := first[name]; o.differ != want[0] || o.between != want[1] || (o.err != nil) != (name == "p.Broken") || strings.Contains(o.differ, "10.0.0") {
			t.Errorf("%s: %q, %q, %v", name, o.differ, o.between, o.err)
		}
	}
}
