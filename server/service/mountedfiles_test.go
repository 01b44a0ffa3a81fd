package service

import (
	"net/http"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/roster/server/rpc"
)

// serviceOf returns the service of a file that is given as text.
func serviceOf(t *testing.T, text string) protoreflect.ServiceDescriptor {
	t.Helper()
	about := new(descriptorpb.FileDescriptorProto)
	if err := prototext.Unmarshal([]byte(text), about); err != nil {
		t.Fatal(err)
	}
	file, err := protodesc.NewFile(about, new(protoregistry.Files))
	if err != nil {
		t.Fatal(err)
	}
	return file.Services().Get(0)
}

// Many servers have a service.proto: what is in each of them is found.
func TestFilesOfOneName(t *testing.T) {
	file := func(pkg, more string) string {
		return `name: "service.proto" package: "` + pkg + `" syntax: "proto2" message_type { name: "M" extension_range { start: 100 end: 200 } ` + more + ` }
			service { name: "S" method { name: "Do" input_type: ".` + pkg + `.M" output_type: ".` + pkg + `.M" } }
			extension { name: "word" number: 100 type: TYPE_STRING label: LABEL_OPTIONAL extendee: ".` + pkg + `.M" }`
	}
	mount := func(service protoreflect.ServiceDescriptor) rpc.Mount {
		return rpc.Mount{Service: service, Handler: http.NotFoundHandler(), Policies: rpc.SamePolicy(service, rpc.Policy{Role: rpc.Anyone}, 1)}
	}
	table, err := rpc.NewTable(
		mount(serviceOf(t, file("one", ""))),
		mount(serviceOf(t, file("two", `extension { name: "inner" number: 101 type: TYPE_STRING label: LABEL_OPTIONAL extendee: ".two.M" }`))))
	if err != nil {
		t.Fatal(err)
	}
	files := &mountedFiles{table: func() *rpc.Table { return table }}
	for _, name := range []protoreflect.FullName{"one.S", "one.M", "one.S.Do", "one.word", "two.S", "two.M", "two.S.Do", "two.word", "two.M.inner"} {
		found, err := files.FindDescriptorByName(name)
		if err != nil || found.FullName() != name || found.ParentFile().Package() != name[:3] {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
	if first, err := files.FindFileByPath("service.proto"); err != nil || first.Package() != "one" {
		t.Error(first, err)
	}
	extensions := mountedExtensions{files}
	for number, want := range map[protoreflect.FieldNumber]protoreflect.FullName{100: "two.word", 101: "two.M.inner"} {
		if found, err := extensions.FindExtensionByNumber("two.M", number); err != nil || found.TypeDescriptor().FullName() != want {
			t.Errorf("%d: %v, %v", number, found, err)
		}
		if found, err := extensions.FindExtensionByName(want); err != nil || found.TypeDescriptor().Number() != number {
			t.Errorf("%s: %v, %v", want, found, err)
		}
	}
	if found, err := extensions.FindExtensionByName("two.M"); err == nil {
		t.Errorf("a message is no extension: %v", found)
	}
	count := 0
	extensions.RangeExtensionsByMessage("two.M", func(protoreflect.ExtensionType) bool { count++; return true })
	if count != 2 {
		t.Errorf("%d extensions of two.M, of 2", count)
	}
}
