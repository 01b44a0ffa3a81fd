package bridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"example.com/roster/internal/nearest"
)

// A message is one message of a bridged call: its bytes in protobuf, which are passed on as they are.
// Only a caller that speaks JSON has it converted.
type message struct {
	wire []byte          // of a request
	sent mem.BufferSlice // of a reply, as grpc-go has received it
	json []byte          // of a reply to a caller that speaks JSON: see method.convert
	err  error           // of a request that cannot be converted
	form *form           // that of its type in the schema
	call *call           // that it is a reply of, nil for a request
}

// A form converts the messages of one type between protobuf and JSON.
type form struct {
	descriptor protoreflect.MessageDescriptor
	types      *types
	memory     *memory
	defaults   estimates
}

// types finds the types of a schema by name, for google.protobuf.Any and for extensions.
type types struct {
	*dynamicpb.Types
	sizes sync.Map // from a name to the size of that type's empty message: see estimate.empty
}

// FindMessageByURL implements protoregistry.MessageTypeResolver. A message that the schema does not
// have may be one of the well-known types.
func (t *types) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	found, err := t.Types.FindMessageByURL(url)
	if errors.Is(err, protoregistry.NotFound) {
		return protoregistry.GlobalTypes.FindMessageByURL(url)
	}
	return found, err
}

// maxNesting is how many messages may be nested in each other. It is the default of protobuf's own
// parsers in C++, Java and Python.
const maxNesting = 100

// toJSON returns a message in JSON.
func (f *form) toJSON(reply mem.BufferSlice) ([]byte, error) {
	done := f.memory.converting(2 * int64(reply.Len()))
	wire, free := f.memory.whole(reply)
	size, deep := f.inJSON(wire)
	if deep {
		free()
		done()
		return nil, fmt.Errorf("the server's reply, a %s, is nested more than %d deep", f.descriptor.FullName(), maxNesting)
	}
	if err := f.memory.tooLarge(size, f.descriptor.FullName()); err != nil {
		free()
		done()
		return nil, err
	}
	if size > 2*int64(len(wire)) {
		free() // it must not wait for more while it has some already
		done()
		done = f.memory.converting(size)
		wire, free = f.memory.whole(reply)
	}
	defer done()
	defer free() // the message below has copies of its bytes
	m := dynamicpb.NewMessage(f.descriptor)
	if err := (proto.UnmarshalOptions{Resolver: f.types, RecursionLimit: maxNesting}).Unmarshal(wire, m); err != nil {
		return nil, fmt.Errorf("the server's reply is not a %s in protobuf: %w", f.descriptor.FullName(), err)
	}
	text, err := protojson.MarshalOptions{EmitDefaultValues: true, Resolver: f.types}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("the server's reply, a %s, has no form in JSON: %w", f.descriptor.FullName(), err)
	}
	// The white space of protojson differs from build to build.
	compact := bytes.NewBuffer(make([]byte, 0, len(text)))
	if err := json.Compact(compact, text); err != nil {
		return nil, err
	}
	return compact.Bytes(), nil
}

// fromJSON returns the message that text is in JSON.
func (f *form) fromJSON(text []byte) ([]byte, error) {
	text = bytes.TrimPrefix(text, []byte("\uFEFF")) // as of some editors; a reader may ignore it (RFC 8259 §8.1)
	if len(text) == 0 {
		return nil, fmt.Errorf("an empty body is not JSON: send {} for an empty %s", f.descriptor.Name())
	}
	size := ofJSON(text)
	if err := f.memory.tooLarge(size, f.descriptor.FullName()); err != nil {
		return nil, err
	}
	defer f.memory.converting(size)()
	m := dynamicpb.NewMessage(f.descriptor)
	if err := (protojson.UnmarshalOptions{Resolver: f.types, RecursionLimit: maxNesting}).Unmarshal(text, m); err != nil {
		return nil, shortened(nearest.Field(nearest.Name(err, f.descriptor), text))
	}
	return proto.Marshal(m)
}

// maxQuoted is how many bytes of a request an error quotes: errors travel in headers.
const maxQuoted = 300

func shortened(err error) error {
	if text := err.Error(); len(text) > maxQuoted {
		return errors.New(strings.ToValidUTF8(text[:maxQuoted], "") + "…")
	}
	return err
}

// codecs are the codecs of the handlers.
func codecs() connect.HandlerOption {
	return connect.WithHandlerOptions(
		connect.WithCodec(protoCodec{}),
		connect.WithCodec(jsonCodec{"json"}),
		connect.WithCodec(jsonCodec{"json; charset=utf-8"}),
	)
}

// protoCodec leaves the bytes of a message alone. Connect also encodes the details of an error with
// it, which are protobuf messages of their own.
type protoCodec struct{}

// Name implements connect.Codec.
func (protoCodec) Name() string { return "proto" }

// Marshal implements connect.Codec.
func (c protoCodec) Marshal(m any) ([]byte, error) {
	switch m := m.(type) {
	case *message:
		return c.MarshalAppend(nil, m)
	case proto.Message:
		return proto.Marshal(m)
	}
	return nil, fmt.Errorf("%T is no message", m)
}

// MarshalAppend implements an optional interface of Connect, with which it need not copy the message.
func (c protoCodec) MarshalAppend(dst []byte, m any) ([]byte, error) {
	switch m := m.(type) {
	case *message:
		dst = slices.Grow(dst, m.sent.Len())
		for _, piece := range m.sent {
			dst = append(dst, piece.ReadOnlyData()...)
		}
		return dst, nil
	case proto.Message:
		return proto.MarshalOptions{}.MarshalAppend(dst, m)
	}
	return nil, fmt.Errorf("%T is no message", m)
}

// Unmarshal implements connect.Codec. Connect uses data again, so the message gets a copy.
func (protoCodec) Unmarshal(data []byte, m any) error {
	request, ok := m.(*message)
	if !ok {
		return fmt.Errorf("%T is no message of a bridged call", m)
	}
	request.wire = bytes.Clone(data)
	return nil
}

// MarshalStable implements what Connect needs for GET requests.
func (c protoCodec) MarshalStable(m any) ([]byte, error) { return c.Marshal(m) }

// IsBinary reports that protobuf needs base64 in a URL.
func (protoCodec) IsBinary() bool { return true }

// jsonCodec has the rules of the port's own JSON: every field is there, zero or not, and a key that
// the message does not have is refused.
type jsonCodec struct{ name string }

// Name implements connect.Codec.
func (c jsonCodec) Name() string { return c.name }

// Marshal implements connect.Codec.
func (c jsonCodec) Marshal(m any) ([]byte, error) { return c.MarshalAppend(nil, m) }

// MarshalAppend implements an optional interface of Connect, with which it need not copy the message.
func (c jsonCodec) MarshalAppend(dst []byte, m any) ([]byte, error) {
	reply, ok := m.(*message)
	if !ok {
		return nil, fmt.Errorf("%T is no message of a bridged call", m)
	}
	if reply.json == nil {
		return nil, fmt.Errorf("%s was not converted to JSON", reply.form.descriptor.FullName())
	}
	return append(dst, reply.json...), nil
}

// Unmarshal implements connect.Codec.
// A request that cannot be converted is answered by the handler, with the code of the error.
func (c jsonCodec) Unmarshal(data []byte, m any) error {
	request, ok := m.(*message)
	if !ok {
		return fmt.Errorf("%T is no message of a bridged call", m)
	}
	request.wire, request.err = request.form.fromJSON(data)
	return nil
}

// MarshalStable implements what Connect needs for GET requests.
func (c jsonCodec) MarshalStable(m any) ([]byte, error) { return c.Marshal(m) }

// IsBinary reports that JSON needs no base64 in a URL.
func (c jsonCodec) IsBinary() bool { return false }

// upstreamCodec is the codec of the calls to upstreams.
type upstreamCodec struct{}

var _ encoding.CodecV2 = upstreamCodec{}

// Name implements encoding.CodecV2. Calls have the content type application/grpc, which every server
// accepts.
func (upstreamCodec) Name() string { return "" }

// Marshal implements encoding.CodecV2.
func (upstreamCodec) Marshal(m any) (mem.BufferSlice, error) {
	request, ok := m.(*message)
	if !ok {
		return nil, fmt.Errorf("%T is no message of a bridged call", m)
	}
	return mem.BufferSlice{mem.SliceBuffer(request.wire)}, nil
}

// Unmarshal implements encoding.CodecV2. The call gives the buffers back.
func (upstreamCodec) Unmarshal(data mem.BufferSlice, m any) error {
	reply, ok := m.(*message)
	if !ok {
		return fmt.Errorf("%T is no message of a bridged call", m)
	}
	if reply.call != nil { // else nobody is going to read it
		data.Ref()
		reply.sent = data
		reply.call.replies = data
		size := 0
		for _, piece := range data {
			if plain, ok := piece.(mem.SliceBuffer); ok { // small, or decompressed
				size += cap(plain) + smallFrame
			}
		}
		reply.call.hold(size)
	}
	return nil
}
