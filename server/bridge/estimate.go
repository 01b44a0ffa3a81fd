package bridge

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A message in protobuf or in JSON can be small and take much memory when it is converted: four million
// zeros are 4 MB of protobuf, 100 MB of values and 8 MB of JSON, and an empty message of two bytes has
// all its fields in JSON. So what a conversion takes is estimated before it begins, from what it has.

// valueBytes is about what dynamicpb takes for one value, and encoding/json for one token.
const valueBytes = 48

// form.estimates has the sizes of types, by name: see defaults.
type estimates map[protoreflect.FullName]int64

// newForm returns the form of a type. It adds the types that it reaches to defaults, which the forms of one
// schema share.
func newForm(descriptor protoreflect.MessageDescriptor, types *types, memory *memory, defaults estimates) *form {
	f := &form{descriptor: descriptor, types: types, memory: memory, defaults: defaults}
	f.defaults.add(descriptor)
	return f
}

// add adds the type and all that it reaches. The size of a type is that of its empty message in JSON: the
// names of its fields with their zero values.
func (e estimates) add(descriptor protoreflect.MessageDescriptor) {
	queue := []protoreflect.MessageDescriptor{descriptor}
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		if _, seen := e[next.FullName()]; seen {
			continue
		}
		for i := range next.Fields().Len() {
			if message := next.Fields().Get(i).Message(); message != nil {
				queue = append(queue, message)
			}
		}
		e[next.FullName()] = emptySize(next)
	}
}

func emptySize(descriptor protoreflect.MessageDescriptor) int64 {
	size := int64(valueBytes)
	for i := range descriptor.Fields().Len() {
		field := descriptor.Fields().Get(i)
		size += int64(len(field.JSONName())) + 16
		if field.Enum() != nil && field.Enum().Values().Len() > 0 {
			size += int64(len(field.Enum().Values().Get(0).Name()))
		}
	}
	return size
}

// inJSON estimates how many bytes of memory a message in protobuf takes to be converted to JSON. It
// counts nothing of what does not parse. deep says that the message, or one in a google.protobuf.Any of it, is
// nested too deep: the parser sees the second only when it is inside, and has no limit there.
func (f *form) inJSON(wire []byte) (size int64, deep bool) {
	e := estimate{defaults: f.defaults, types: f.types}
	size = 2*int64(len(wire)) + e.count(wire, f.descriptor, 0)
	return size, e.deep
}

// An estimate is that of one message.
type estimate struct {
	defaults estimates
	types    *types // nil has no google.protobuf.Any
	deep     bool
}

// empty is the size of the type's empty message. A type that only an Any has is not among the defaults.
func (e *estimate) empty(descriptor protoreflect.MessageDescriptor) int64 {
	if size, ok := e.defaults[descriptor.FullName()]; ok || e.types == nil {
		return size
	}
	if size, ok := e.types.sizes.Load(descriptor.FullName()); ok {
		return size.(int64)
	}
	size := emptySize(descriptor)
	e.types.sizes.Store(descriptor.FullName(), size)
	return size
}

func (e *estimate) count(wire []byte, descriptor protoreflect.MessageDescriptor, depth int) int64 {
	size := e.empty(descriptor) + valueBytes
	if depth > maxNesting {
		e.deep = true
		return size
	}
	fields := descriptor.Fields()
	isAny := e.types != nil && descriptor.FullName() == "google.protobuf.Any"
	var url, content []byte // of an Any
	for len(wire) > 0 {
		number, kind, n := protowire.ConsumeTag(wire)
		if n < 0 {
			return size
		}
		wire = wire[n:]
		field := fields.ByNumber(number)
		if n = protowire.ConsumeFieldValue(number, kind, wire); n < 0 {
			return size
		}
		value := wire[:n]
		wire = wire[n:]
		size += valueBytes
		if field == nil {
			continue
		}
		size += int64(len(field.JSONName()))
		switch {
		case kind == protowire.StartGroupType && field.Message() != nil:
			group, n := protowire.ConsumeGroup(number, value)
			if n >= 0 {
				size += e.count(group, field.Message(), depth+1)
			}
		case kind != protowire.BytesType:
			// One number.
		case field.Message() != nil:
			content, _ := protowire.ConsumeBytes(value)
			size += e.count(content, field.Message(), depth+1)
		case field.IsList() && field.Kind() != protoreflect.StringKind && field.Kind() != protoreflect.BytesKind:
			content, _ := protowire.ConsumeBytes(value)
			size += packed(content, field.Kind()) * valueBytes
		case isAny && field.Name() == "value":
			content, _ = protowire.ConsumeBytes(value)
			size += int64(len(content))
		case field.Kind() == protoreflect.BytesKind:
			size += 2 * int64(len(value)) // base64
		default:
			if isAny {
				url, _ = protowire.ConsumeBytes(value)
			}
			size += 4 * int64(len(value)) // a string may be escaped
		}
	}
	if isAny && len(url) > 0 {
		if found, err := e.types.FindMessageByURL(string(url)); err == nil {
			size += e.count(content, found.Descriptor(), depth+1)
		}
	}
	return size
}

// packed returns the number of values of a packed field.
func packed(content []byte, kind protoreflect.Kind) int64 {
	switch kind {
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return int64(len(content)) / 4
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return int64(len(content)) / 8
	}
	var values int64
	for _, b := range content {
		if b < 0x80 { // the last byte of a varint
			values++
		}
	}
	return values
}

// ofJSON estimates how many bytes of memory a message in JSON takes to be converted to protobuf, by its
// values: each is followed by a comma or by the end of its list or object.
func ofJSON(text []byte) int64 {
	size := 2 * int64(len(text))
	inString := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == ',', c == '{', c == '[', c == ':':
			size += valueBytes
		}
	}
	return size
}
