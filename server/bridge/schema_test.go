package bridge

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// file returns a file of package p, whose messages each have the fields that are listed as name:type.
func file(name string, imports []string, messages map[string][]string, service string, methods ...string) *descriptorpb.FileDescriptorProto {
	f := &descriptorpb.FileDescriptorProto{Name: proto.String(name), Package: proto.String("p"), Syntax: proto.String("proto3"), Dependency: imports}
	for _, message := range []string{"A", "B", "C"} {
		fields, ok := messages[message]
		if !ok {
			continue
		}
		m := &descriptorpb.DescriptorProto{Name: proto.String(message)}
		for i, field := range fields {
			name, kind, _ := strings.Cut(field, ":")
			d := &descriptorpb.FieldDescriptorProto{Name: proto.String(name), Number: proto.Int32(int32(i + 1)),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()}
			if kind != "" {
				d.Type, d.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), proto.String("."+kind)
			}
			m.Field = append(m.Field, d)
		}
		f.MessageType = append(f.MessageType, m)
	}
	if service != "" {
		s := &descriptorpb.ServiceDescriptorProto{Name: proto.String(service)}
		for _, method := range methods {
			s.Method = append(s.Method, &descriptorpb.MethodDescriptorProto{Name: proto.String(method), InputType: proto.String(".p.A"), OutputType: proto.String(".p.A")})
		}
		f.Service = []*descriptorpb.ServiceDescriptorProto{s}
	}
	return f
}

func TestLinkNeedsNoCorrectImports(t *testing.T) {
	for name, files := range linkable() {
		t.Run(name, func(t *testing.T) {
			s := link(files, nil)
			if s.services["p.S"] == nil || len(s.problems) > 0 {
				t.Errorf("services %v, problems %v", s.services, s.problems)
			}
		})
	}
}

// linkable are files whose imports are wrong, and that can be linked.
func linkable() map[string][]*descriptorpb.FileDescriptorProto {
	return map[string][]*descriptorpb.FileDescriptorProto{
		"the import has another name than the file": {
			file("a.proto", []string{"protos/b.proto"}, map[string][]string{"A": {"b:p.B"}}, "S", "Get"),
			file("b.proto", nil, map[string][]string{"B": {"text"}}, ""),
		},
		"an import is left out": {
			file("a.proto", nil, map[string][]string{"A": {"b:p.B"}}, "S", "Get"),
			file("b.proto", nil, map[string][]string{"B": {"text"}}, ""),
		},
		"an import is there and not used": {
			file("a.proto", []string{"unknown.proto"}, map[string][]string{"A": {"text"}}, "S", "Get"),
		},
		"a well-known type is left out": {
			file("a.proto", []string{"somewhere/timestamp.proto"}, map[string][]string{"A": {"at:google.protobuf.Timestamp"}}, "S", "Get"),
		},
		"a well-known type is sent along, and damaged": {
			file("a.proto", []string{"google/protobuf/timestamp.proto"}, map[string][]string{"A": {"at:google.protobuf.Timestamp"}}, "S", "Get"),
			{Name: proto.String("google/protobuf/timestamp.proto")},
		},
		"a file is sent twice": {
			file("a.proto", nil, map[string][]string{"A": {"text"}}, "S", "Get"),
			file("a.proto", nil, map[string][]string{"A": {"text"}}, "S", "Get"),
		},
		"a type is recursive": {
			file("a.proto", nil, map[string][]string{"A": {"a:p.A"}}, "S", "Get"),
		},
		"types of one file are recursive": {
			file("a.proto", nil, map[string][]string{"A": {"b:p.B"}, "B": {"a:p.A"}}, "S", "Get"),
		},
		"a placeholder stands for the import": {
			file("a.proto", []string{"b.proto"}, map[string][]string{"A": {"b:p.B"}}, "S", "Get"),
			{Name: proto.String("b.proto"), Package: proto.String("p")},
			file("c.proto", nil, map[string][]string{"B": {"text"}}, ""),
		},
		"a placeholder stands for a well-known type": {
			file("a.proto", []string{"google/protobuf/any.proto"}, map[string][]string{"A": {"any:google.protobuf.Any"}}, "S", "Get"),
			{Name: proto.String("google/protobuf/any.proto"), Package: proto.String("google.protobuf")},
		},
	}
}

// unlinkable are files of which a service p.S cannot be linked, by what is said of it.
func unlinkable() map[string][]*descriptorpb.FileDescriptorProto {
	return map[string][]*descriptorpb.FileDescriptorProto{
		"a.proto uses p.B, which no file of the server defines": {
			file("a.proto", []string{"b.proto"}, map[string][]string{"A": {"b:p.B"}}, "S", "Get"),
		},
		"a.proto imports itself": {
			file("a.proto", nil, map[string][]string{"A": {"b:p.B"}}, "S", "Get"),
			file("b.proto", nil, map[string][]string{"B": {"a:p.A"}}, ""),
		},
		"does not link": {
			file("a.proto", nil, map[string][]string{"A": {"x", "x"}}, "S", "Get"),
		},
		"a.proto uses google.protobuf.Nothing, which no file of the server defines": {
			file("a.proto", []string{"google/protobuf/nothing.proto"}, map[string][]string{"A": {"x:google.protobuf.Nothing"}}, "S", "Get"),
		},
		"b.proto uses p.C, which no file of the server defines": {
			file("a.proto", []string{"b.proto"}, map[string][]string{"A": {"b:p.B"}}, "S", "Get"),
			file("b.proto", []string{"c.proto"}, map[string][]string{"B": {"c:p.C"}}, ""),
			{Name: proto.String("c.proto"), Package: proto.String("p")},
		},
		"a.proto uses p.B, which no file of the server defines\na.proto uses p.C": {
			file("a.proto", nil, map[string][]string{"A": {"b:p.B", "c:p.C"}}, "S", "Get"),
		},
	}
}

func TestLinkNamesWhatIsMissing(t *testing.T) {
	for want, files := range unlinkable() {
		t.Run(want, func(t *testing.T) {
			// A sound service of the same server is not affected.
			other := file("other.proto", nil, map[string][]string{"A": {"x"}}, "T", "Get")
			other.Package = proto.String("q")
			other.Service[0].Method[0].InputType, other.Service[0].Method[0].OutputType = proto.String(".q.A"), proto.String(".q.A")
			s := link(append(files, other), nil)
			if err := s.problems["p.S"]; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("problems %v", s.problems)
			}
			if s.services["q.T"] == nil {
				t.Error("the other service is missing")
			}
		})
	}
}

func TestLinkBoundsWhatAServiceReaches(t *testing.T) {
	f := file("a.proto", nil, map[string][]string{"A": {"text"}}, "S", "Get")
	previous := f.MessageType[0]
	for i := range maxParts + 1 {
		m := &descriptorpb.DescriptorProto{Name: proto.String(fmt.Sprintf("M%d", i))}
		previous.Field = append(previous.Field, &descriptorpb.FieldDescriptorProto{
			Name: proto.String("next"), Number: proto.Int32(100), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: proto.String(".p." + m.GetName())})
		f.MessageType = append(f.MessageType, m)
		previous = m
	}
	s := link([]*descriptorpb.FileDescriptorProto{f}, nil)
	if err := s.problems["p.S"]; err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("problems %v", s.problems)
	}
}

// Many services that each reach many types would take memory for each pair.
func TestLinkBoundsWhatAllServicesReach(t *testing.T) {
	const types, services = 2000, 300
	f := file("a.proto", nil, map[string][]string{"A": nil}, "S", "Get")
	for i := range types {
		m := &descriptorpb.DescriptorProto{Name: proto.String(fmt.Sprintf("M%d", i))}
		f.MessageType[0].Field = append(f.MessageType[0].Field, &descriptorpb.FieldDescriptorProto{
			Name: proto.String(fmt.Sprintf("f%d", i)), Number: proto.Int32(int32(i + 1)), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: proto.String(".p." + m.GetName())})
		f.MessageType = append(f.MessageType, m)
	}
	for i := range services {
		f.Service = append(f.Service, &descriptorpb.ServiceDescriptorProto{Name: proto.String(fmt.Sprintf("S%d", i)), Method: f.Service[0].Method})
	}
	s := link([]*descriptorpb.FileDescriptorProto{f}, nil)
	if len(s.services) == 0 || len(s.services) > maxAllParts/types || len(s.services)+len(s.problems) != services+1 {
		t.Error(len(s.services), "services,", len(s.problems), "problems")
	}
	for name, err := range s.problems {
		if !strings.Contains(err.Error(), "bridge fewer, as in --bridge SERVICE=URL") {
			t.Error(name, err)
		}
	}
}

func TestADifferenceIsSaidInWords(t *testing.T) {
	schemaOf := func(f *descriptorpb.FileDescriptorProto) *serviceSchema {
		t.Helper()
		s := link([]*descriptorpb.FileDescriptorProto{f}, nil).services["p.S"]
		if s == nil {
			t.Fatal("it does not link")
		}
		return s
	}
	before := schemaOf(file("a.proto", nil, map[string][]string{"A": {"x", "y"}}, "S", "Get", "Put"))
	for want, after := range map[string]*serviceSchema{
		"": schemaOf(file("b.proto", nil, map[string][]string{"A": {"x", "y"}, "B": nil}, "S", "Put", "Get")),
		"p.A differs (y (string = 2) is missing)":                                              schemaOf(file("a.proto", nil, map[string][]string{"A": {"x"}}, "S", "Get", "Put")),
		"p.A differs (x is string = 2 and not string = 1, y is string = 1 and not string = 2)": schemaOf(file("a.proto", nil, map[string][]string{"A": {"y", "x"}}, "S", "Get", "Put")),
		"method Put is missing": schemaOf(file("a.proto", nil, map[string][]string{"A": {"x", "y"}}, "S", "Get")),
		"method Del is new":     schemaOf(file("a.proto", nil, map[string][]string{"A": {"x", "y"}}, "S", "Get", "Put", "Del")),
	} {
		if got := difference(before, after); got != want {
			t.Errorf("difference = %q, want %q", got, want)
		}
	}
}

func TestTheNameOfAServiceThatIsNeverMounted(t *testing.T) {
	for name, want := range map[protoreflect.FullName]bool{
		"grpc.reflection.v1.ServerReflection": true, "grpc.health.v1.Health": true, "grpc.testing.TestService": false, "jobs.v1.JobService": false,
	} {
		if neverMounted(name) != want {
			t.Error(name)
		}
	}
}
