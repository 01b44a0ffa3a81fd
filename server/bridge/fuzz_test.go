package bridge

import (
	"os"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// FuzzLink links any files that decode, as those of an upstream are. What links must describe itself, and
// its messages must have a form in JSON.
func FuzzLink(f *testing.F) {
	add := func(files ...*descriptorpb.FileDescriptorProto) {
		wire, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: files})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	wire, err := os.ReadFile("testdata/schema.binpb")
	if err != nil {
		f.Fatal(err)
	}
	all := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(wire, all); err != nil {
		f.Fatal(err)
	}
	for _, one := range all.GetFile() {
		if len(one.GetService()) > 0 {
			add(one)
		}
	}
	for _, files := range unlinkable() {
		add(files...)
	}
	for _, files := range linkable() {
		add(files...)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		set := new(descriptorpb.FileDescriptorSet)
		if len(wire) > 64<<10 || (proto.UnmarshalOptions{RecursionLimit: maxNesting}).Unmarshal(wire, set) != nil {
			return
		}
		s := link(set.GetFile(), nil)
		for name, err := range s.problems {
			if err == nil || err.Error() == "" || s.services[name] != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		memory := newMemory(4<<20, 4<<20)
		for name, service := range s.services {
			if difference(service, service) != "" {
				t.Error(name, "differs from itself")
			}
			defaults := make(estimates)
			for i := range service.descriptor.Methods().Len() {
				method := service.descriptor.Methods().Get(i)
				_, _ = newForm(method.Input(), service.types, memory, defaults).fromJSON([]byte(`{"a":1}`))
				_, _ = newForm(method.Output(), service.types, memory, defaults).toJSON(mem.BufferSlice{mem.SliceBuffer{0x08, 0x01}})
			}
		}
	})
}
