package service

import (
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"example.com/roster/server/rpc"
)

// mountedFiles finds the descriptors of everything that the port answers at the moment: those of the
// mounted services and of all that they import, also when they come from another server and are not in
// this program. If two servers have files or types of one name that differ, the first one counts.
type mountedFiles struct {
	table func() *rpc.Table

	mu     sync.Mutex
	of     *rpc.Table // that the maps are of
	byPath map[string]protoreflect.FileDescriptor
	byName map[protoreflect.FullName]protoreflect.Descriptor
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
	for _, service := range table.Services() {
		m.addFile(service.ParentFile())
	}
}

func (m *mountedFiles) addFile(file protoreflect.FileDescriptor) {
	if _, known := m.byPath[file.Path()]; known || file.IsPlaceholder() {
		return
	}
	m.byPath[file.Path()] = file
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
		m.add(file.Extensions().Get(i))
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
		m.add(message.Extensions().Get(i))
	}
}

func (m *mountedFiles) add(d protoreflect.Descriptor) {
	if _, known := m.byName[d.FullName()]; !known {
		m.byName[d.FullName()] = d
	}
}
