package bridge

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// A schema is the services of an upstream with all their types.
type schema struct {
	services map[protoreflect.FullName]*serviceSchema
	// problems says, for each service that cannot be mounted, why.
	problems map[protoreflect.FullName]error
}

type serviceSchema struct {
	descriptor  protoreflect.ServiceDescriptor
	types       *types
	fingerprint [sha256.Size]byte
	parts       map[string]string // what the fingerprint is of, to say what differs
}

// The bounds of a schema that is learnt. A server that has more is refused.
const (
	maxSchemaFiles  = 5_000
	maxSchemaBytes  = 4 << 20
	maxSchemaMemory = 32 << 20 // bytes, as descriptorForm estimates them
	fieldMemory     = 700      // about what it estimates for a field
)

// The bounds of every schema: how many messages and enums a service reaches, all services reach together,
// and methods all have.
const (
	maxParts    = 20_000
	maxAllParts = 200_000
	maxMethods  = 5_000
)

// neverMounted are services that a server has for tools and balancers. The port has its own, which
// tell of everything that is mounted.
func neverMounted(service protoreflect.FullName) bool {
	return strings.HasPrefix(string(service), "grpc.reflection.") || strings.HasPrefix(string(service), "grpc.health.") ||
		strings.HasPrefix(string(service), "grpc.channelz.")
}

// link makes a schema of files. A service whose types are incomplete is left out, and why is in
// problems; it does not take the others with it.
//
// The imports of a file are not relied on: some servers leave imported files out, or have them under
// another name than the import says (grpcio's reflection before 1.54). Each file is linked with the
// files that define the types it uses, or with the well-known types of this program.
func link(files []*descriptorpb.FileDescriptorProto, wanted func(protoreflect.FullName) bool) *schema {
	l := &linker{
		files:   make(map[string]*descriptorpb.FileDescriptorProto),
		defines: make(map[string]string),
		built:   new(protoregistry.Files),
		failed:  make(map[string]error),
	}
	for _, file := range files {
		name := file.GetName()
		if _, twice := l.files[name]; twice || isWellKnown(name) {
			continue
		}
		l.files[name] = file
		for _, symbol := range symbols(file) {
			if _, twice := l.defines[symbol]; !twice {
				l.defines[symbol] = name
			}
		}
	}
	s := &schema{services: make(map[protoreflect.FullName]*serviceSchema), problems: make(map[protoreflect.FullName]error)}
	resolver := &types{}
	parts, methods := 0, 0
	texts := make(map[protoreflect.FullName]string)
	defined := make(map[protoreflect.FullName]*descriptorpb.ServiceDescriptorProto)
	for _, name := range slices.Sorted(maps.Keys(l.files)) {
		for _, service := range l.files[name].GetService() {
			full := protoreflect.FullName(qualified(l.files[name].GetPackage(), service.GetName()))
			if neverMounted(full) || wanted != nil && !wanted(full) {
				continue
			}
			// Some servers have one file under two names.
			before, twice := defined[full]
			defined[full] = service
			switch {
			case twice && !proto.Equal(before, service):
				delete(s.services, full)
				s.problems[full] = fmt.Errorf("two files define it, and differ: %s is the second", name)
				continue
			case s.services[full] != nil:
				continue
			}
			file, err := l.build(name, nil)
			if err == nil {
				var found *serviceSchema
				if found, err = newServiceSchema(file.Services().ByName(full.Name()), resolver, texts); err == nil {
					if parts, methods = parts+len(found.parts), methods+len(service.GetMethod()); parts > maxAllParts || methods > maxMethods {
						parts, methods = parts-len(found.parts), methods-len(service.GetMethod())
						err = fmt.Errorf("the services of the server have more than %d methods, or reach more than %d messages and enums: bridge fewer, as in --bridge SERVICE=URL", maxMethods, maxAllParts)
					}
				}
				if err == nil {
					s.services[full] = found
					delete(s.problems, full)
					continue
				}
			}
			s.problems[full] = err
		}
	}
	// Extensions and the types within an Any may be in any file, not only in those that a service needs.
	for _, name := range slices.Sorted(maps.Keys(l.files)) {
		_, _ = l.build(name, nil)
	}
	resolver.Types = dynamicpb.NewTypes(l.built)
	return s
}

// isWellKnown reports whether this program has the file itself, as one of Google's well-known types.
func isWellKnown(file string) bool {
	if !strings.HasPrefix(file, "google/protobuf/") {
		return false
	}
	_, err := protoregistry.GlobalFiles.FindFileByPath(file)
	return err == nil
}

// A linker builds descriptors, each file after those that it needs.
type linker struct {
	files   map[string]*descriptorpb.FileDescriptorProto
	defines map[string]string // from the full name of a type to the file that defines it
	built   *protoregistry.Files
	failed  map[string]error
}

func (l *linker) build(name string, within []string) (protoreflect.FileDescriptor, error) {
	if built, err := l.built.FindFileByPath(name); err == nil {
		return built, nil
	}
	if err, known := l.failed[name]; known {
		return nil, err
	}
	built, err := l.buildNew(name, within)
	if err != nil {
		l.failed[name] = err
	}
	return built, err
}

func (l *linker) buildNew(name string, within []string) (protoreflect.FileDescriptor, error) {
	if slices.Contains(within, name) {
		return nil, fmt.Errorf("%s imports itself, by way of %s", name, strings.Join(within, ", "))
	}
	if len(within) > 200 {
		return nil, fmt.Errorf("%s: files import each other more than 200 deep", name)
	}
	within = append(within, name)
	file := proto.Clone(l.files[name]).(*descriptorpb.FileDescriptorProto)
	file.Dependency, file.PublicDependency, file.WeakDependency, file.OptionDependency = nil, nil, nil, nil
	var missing []error
	for _, symbol := range references(file) {
		from, ok := l.defines[symbol]
		switch {
		case from == name:
			continue
		case ok:
			if _, err := l.build(from, within); err != nil {
				missing = append(missing, err)
				continue
			}
		default:
			known, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(symbol))
			if err != nil {
				missing = append(missing, fmt.Errorf("%s uses %s, which no file of the server defines", name, symbol))
				continue
			}
			from = known.ParentFile().Path()
		}
		if !slices.Contains(file.Dependency, from) {
			file.Dependency = append(file.Dependency, from)
		}
	}
	if err := errors.Join(missing...); err != nil {
		return nil, err
	}
	built, err := protodesc.NewFile(file, (*linkerFiles)(l))
	if err != nil {
		return nil, fmt.Errorf("%s does not link: %w", name, err)
	}
	if err := l.built.RegisterFile(built); err != nil {
		return nil, fmt.Errorf("%s does not link: %w", name, err)
	}
	return built, nil
}

// linkerFiles are the files built so far, and those of this program.
type linkerFiles linker

// FindFileByPath implements protodesc.Resolver.
func (l *linkerFiles) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if file, err := l.built.FindFileByPath(path); err == nil {
		return file, nil
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

// FindDescriptorByName implements protodesc.Resolver.
func (l *linkerFiles) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if found, err := l.built.FindDescriptorByName(name); err == nil {
		return found, nil
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}

func qualified(scope, name string) string {
	if scope == "" {
		return name
	}
	return scope + "." + name
}

// symbols are the full names of the messages and enums that a file defines.
func symbols(file *descriptorpb.FileDescriptorProto) []string {
	var names []string
	var messages func(scope string, list []*descriptorpb.DescriptorProto)
	messages = func(scope string, list []*descriptorpb.DescriptorProto) {
		for _, m := range list {
			full := qualified(scope, m.GetName())
			names = append(names, full)
			for _, e := range m.GetEnumType() {
				names = append(names, qualified(full, e.GetName()))
			}
			messages(full, m.GetNestedType())
		}
	}
	messages(file.GetPackage(), file.GetMessageType())
	for _, e := range file.GetEnumType() {
		names = append(names, qualified(file.GetPackage(), e.GetName()))
	}
	return names
}

// references are the full names of the types that a file uses, each once.
func references(file *descriptorpb.FileDescriptorProto) []string {
	var names []string
	seen := make(map[string]bool)
	add := func(name string) {
		if name = strings.TrimPrefix(name, "."); name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	fields := func(list []*descriptorpb.FieldDescriptorProto) {
		for _, f := range list {
			add(f.GetTypeName())
			add(f.GetExtendee())
		}
	}
	var messages func(list []*descriptorpb.DescriptorProto)
	messages = func(list []*descriptorpb.DescriptorProto) {
		for _, m := range list {
			fields(m.GetField())
			fields(m.GetExtension())
			messages(m.GetNestedType())
		}
	}
	messages(file.GetMessageType())
	fields(file.GetExtension())
	for _, service := range file.GetService() {
		for _, m := range service.GetMethod() {
			add(m.GetInputType())
			add(m.GetOutputType())
		}
	}
	return names
}

// newServiceSchema describes a service by its parts: its methods, and every message and enum that they
// reach. Services of one schema share the texts of their parts.
func newServiceSchema(descriptor protoreflect.ServiceDescriptor, types *types, texts map[protoreflect.FullName]string) (*serviceSchema, error) {
	s := &serviceSchema{descriptor: descriptor, types: types, parts: make(map[string]string)}
	queue := []protoreflect.Descriptor{}
	methods := descriptor.Methods()
	for i := range methods.Len() {
		m := methods.Get(i)
		s.parts["method "+string(m.Name())] = fmt.Sprintf("(%s%s) returns (%s%s)%s",
			stream(m.IsStreamingClient()), m.Input().FullName(), stream(m.IsStreamingServer()), m.Output().FullName(), options(m))
		queue = append(queue, m.Input(), m.Output())
	}
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		name := string(next.FullName())
		if _, seen := s.parts[name]; seen {
			continue
		}
		if len(s.parts) >= maxParts {
			return nil, fmt.Errorf("%s reaches more than %d messages and enums", descriptor.FullName(), maxParts)
		}
		known, seen := texts[next.FullName()]
		switch d := next.(type) {
		case protoreflect.EnumDescriptor:
			if !seen {
				known = text(protodesc.ToEnumDescriptorProto(d))
			}
		case protoreflect.MessageDescriptor:
			if !seen {
				about := protodesc.ToDescriptorProto(d)
				about.NestedType, about.EnumType = nil, nil // each is a part of its own, if it is reached
				known = text(about)
			}
			for i := range d.Fields().Len() {
				if f := d.Fields().Get(i); f.Message() != nil {
					queue = append(queue, f.Message())
				} else if f.Enum() != nil {
					queue = append(queue, f.Enum())
				}
			}
		}
		s.parts[name], texts[next.FullName()] = known, known
	}
	hash := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(s.parts)) {
		fmt.Fprintf(hash, "%s\x00%s\x00", name, s.parts[name])
	}
	hash.Sum(s.fingerprint[:0])
	return s, nil
}

func stream(is bool) string {
	if is {
		return "stream "
	}
	return ""
}

func options(m protoreflect.MethodDescriptor) string {
	options, _ := m.Options().(*descriptorpb.MethodOptions)
	if level := options.GetIdempotencyLevel(); level != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN {
		return " " + level.String()
	}
	return ""
}

// text is a stable form of a descriptor.
func text(m proto.Message) string {
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return err.Error()
	}
	return string(wire)
}

// difference says in words what differs between two schemas of one service; empty if nothing does.
func difference(a, b *serviceSchema) string {
	if a.fingerprint == b.fingerprint {
		return ""
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(a.parts)) {
		switch other, ok := b.parts[name]; {
		case !ok:
			words = append(words, name+" is missing")
		case other != a.parts[name]:
			words = append(words, name+" differs"+fieldDifference(a, b, name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.parts)) {
		if _, ok := a.parts[name]; !ok {
			words = append(words, name+" is new")
		}
	}
	const most = 5
	if more := len(words) - most; more > 0 {
		words = append(words[:most], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, "; ")
}

// fieldDifference says which fields of a message differ.
func fieldDifference(a, b *serviceSchema, name string) string {
	var x, y descriptorpb.DescriptorProto
	if proto.Unmarshal([]byte(a.parts[name]), &x) != nil || proto.Unmarshal([]byte(b.parts[name]), &y) != nil ||
		len(x.GetField())+len(y.GetField()) == 0 || strings.HasPrefix(name, "method ") {
		return ""
	}
	fields := func(m *descriptorpb.DescriptorProto) map[string]string {
		found := make(map[string]string)
		for _, f := range m.GetField() {
			kind := strings.TrimPrefix(strings.ToLower(f.GetType().String()), "type_")
			found[f.GetName()] = fmt.Sprintf("%s = %d", cmp.Or(strings.TrimPrefix(f.GetTypeName(), "."), kind), f.GetNumber())
		}
		return found
	}
	before, after := fields(&x), fields(&y)
	var words []string
	for _, field := range slices.Sorted(maps.Keys(before)) {
		if other, ok := after[field]; !ok {
			words = append(words, fmt.Sprintf("%s (%s) is missing", field, before[field]))
		} else if other != before[field] {
			words = append(words, fmt.Sprintf("%s is %s and not %s", field, other, before[field]))
		}
	}
	for _, field := range slices.Sorted(maps.Keys(after)) {
		if _, ok := before[field]; !ok {
			words = append(words, fmt.Sprintf("%s (%s) is new", field, after[field]))
		}
	}
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, ", ") + ")"
}

// knownContract is the schema of a service that this program knows.
func knownContract(service protoreflect.ServiceDescriptor) *schema {
	types := &types{Types: dynamicpb.NewTypes(protoregistry.GlobalFiles)}
	found, err := newServiceSchema(service, types, make(map[protoreflect.FullName]string))
	s := &schema{services: make(map[protoreflect.FullName]*serviceSchema), problems: make(map[protoreflect.FullName]error)}
	if err != nil {
		s.problems[service.FullName()] = err
	} else {
		s.services[service.FullName()] = found
	}
	return s
}
