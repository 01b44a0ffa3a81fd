package service

import (
	"sync"

	"connectrpc.com/grpcreflect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"example.com/roster/server/rpc"
)

// mountedFiles finds the descriptors of everything that the port answers at the moment: those of the
// mounted services and of all that they import, also when they come from another server and are not in
// this program. If two servers have types of one name that differ, the first one counts. Two files of one
// name, as of servers that both have a service.proto, are both searched for types, and the first is found by name.
type mountedFiles struct {
	table func() *rpc.Table

	mu     sync.Mutex
	of     *rpc.Table // that the maps are of
	byPath map[string]protoreflect.FileDescriptor
	byName map[protoreflect.FullName]protoreflect.Descriptor
	added  map[protoreflect.FileDescriptor]bool
	// extensions are those of each message, by number.
	extensions map[protoreflect.FullName]map[protoreflect.FieldNumber]protoreflect.ExtensionType
}

// FindFileByPath implements protodesc.Resolver.
func (m *mountedFiles) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refresh()
	if file, ok := m.byPath[path]; ok {
		return file, nil
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

// FindDescriptorByName implements protodesc.Resolver.
func (m *mountedFiles) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refresh()
	if found, ok := m.byName[name]; ok {
		return found, nil
	}
	// Fields, methods and enum values are found by what they belong to.
	if parent, ok := m.byName[name.Parent()]; ok {
		switch parent := parent.(type) {
		case protoreflect.ServiceDescriptor:
			if method := parent.Methods().ByName(name.Name()); method != nil {
				return method, nil
			}
		case protoreflect.MessageDescriptor:
			if field := parent.Fields().ByName(name.Name()); field != nil {
				return field, nil
			}
		}
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}

// refresh builds the maps anew if the mounts have changed.
func (m *mountedFiles) refresh() {
	table := m.table()
	if m.of == table {
		return
	}
	m.of = table
	m.byPath = make(map[string]protoreflect.FileDescriptor)
	m.byName = make(map[protoreflect.FullName]protoreflect.Descriptor)
	m.added = make(map[protoreflect.FileDescriptor]bool)
	m.extensions = make(map[protoreflect.FullName]map[protoreflect.FieldNumber]protoreflect.ExtensionType)
	for _, service := range table.Services() {
		m.addFile(service.ParentFile())
	}
}

func (m *mountedFiles) addFile(file protoreflect.FileDescriptor) {
	if m.added[file] || file.IsPlaceholder() {
		return
	}
	m.added[file] = true
	if m.byPath[file.Path()] == nil {
		m.byPath[file.Path()] = file
	}
	for i := range file.Services().Len() {
		m.add(file.Services().Get(i))
	}
	for i := range file.Messages().Len() {
		m.addMessage(file.Messages().Get(i))
	}
	for i := range file.Enums().Len() {
		m.add(file.Enums().Get(i))
	}
	for i := range file.Extensions().Len() {
		m.addExtension(file.Extensions().Get(i))
	}
	for i := range file.Imports().Len() {
		m.addFile(file.Imports().Get(i).FileDescriptor)
	}
}

func (m *mountedFiles) addMessage(message protoreflect.MessageDescriptor) {
	m.add(message)
	for i := range message.Messages().Len() {
		m.addMessage(message.Messages().Get(i))
	}
	for i := range message.Enums().Len() {
		m.add(message.Enums().Get(i))
	}
	for i := range message.Extensions().Len() {
		m.addExtension(message.Extensions().Get(i))
	}
}

func (m *mountedFiles) add(d protoreflect.Descriptor) {
	if _, known := m.byName[d.FullName()]; !known {
		m.byName[d.FullName()] = d
	}
}

func (m *mountedFiles) addExtension(extension protoreflect.ExtensionDescriptor) {
	m.add(extension)
	message := extension.ContainingMessage().FullName()
	if m.extensions[message] == nil {
		m.extensions[message] = make(map[protoreflect.FieldNumber]protoreflect.ExtensionType)
	}
	if m.extensions[message][extension.Number()] == nil {
		m.extensions[message][extension.Number()] = dynamicpb.NewExtensionType(extension)
	}
}

// mountedExtensions finds the extensions in mountedFiles.
type mountedExtensions struct{ files *mountedFiles }

var _ grpcreflect.ExtensionResolver = mountedExtensions{}

// FindExtensionByName implements protoregistry.ExtensionTypeResolver.
func (m mountedExtensions) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	found, err := m.files.FindDescriptorByName(name)
	if err != nil {
		return nil, err
	}
	extension, ok := found.(protoreflect.ExtensionDescriptor)
	if !ok || !extension.IsExtension() {
		return nil, protoregistry.NotFound
	}
	return dynamicpb.NewExtensionType(extension), nil
}

// FindExtensionByNumber implements protoregistry.ExtensionTypeResolver.
func (m mountedExtensions) FindExtensionByNumber(message protoreflect.FullName, number protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	if found := m.of(message)[number]; found != nil {
		return found, nil
	}
	return protoregistry.GlobalTypes.FindExtensionByNumber(message, number)
}

// RangeExtensionsByMessage implements grpcreflect.ExtensionResolver.
func (m mountedExtensions) RangeExtensionsByMessage(message protoreflect.FullName, f func(protoreflect.ExtensionType) bool) {
	known := m.of(message)
	for _, extension := range known {
		if !f(extension) {
			return
		}
	}
	protoregistry.GlobalTypes.RangeExtensionsByMessage(message, func(extension protoreflect.ExtensionType) bool {
		return known[extension.TypeDescriptor().Number()] != nil || f(extension)
	})
}

// of returns the extensions of a message. A table that is replaced gets maps of its own, so that this one is
// not written to any more.
func (m mountedExtensions) of(message protoreflect.FullName) map[protoreflect.FieldNumber]protoreflect.ExtensionType {
	m.files.mu.Lock()
	defer m.files.mu.Unlock()
	m.files.refresh()
	return m.files.extensions[message]
}
