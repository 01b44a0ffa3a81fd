package service

import (
	"bytes"
	"encoding/json"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"example.com/roster/internal/nearest"
)

// encoder is a message that encodes itself, because its parts have been encoded before. The codecs
// ask every message whether it is one. Both methods append to dst and return it, and a message is
// asked once: Connect encodes a reply once.
type encoder interface {
	AppendProto(dst []byte) ([]byte, error)
	AppendJSON(dst []byte) ([]byte, error)
}

// jsonReader is a message that reads the usual form of its JSON by itself. ReadJSON reports false
// for any other form, right or wrong: protojson reads that, or says what is wrong with it.
type jsonReader interface {
	ReadJSON(text []byte) bool
}

// jsonCodec is the JSON of curl and of browsers: every field is there, zero or not, and a key that
// the request does not have is refused rather than ignored, since a call with userIds for userIDs
// would find nobody.
type jsonCodec struct{ name string }

// codecs returns the codecs that replace those of Connect. JSON has two names there.
func codecs() connect.HandlerOption {
	return connect.WithHandlerOptions(
		connect.WithCodec(protoCodec{}),
		connect.WithCodec(jsonCodec{"json"}),
		connect.WithCodec(jsonCodec{"json; charset=utf-8"}),
	)
}

// Name implements connect.Codec.
func (c jsonCodec) Name() string { return c.name }

// Marshal implements connect.Codec.
func (c jsonCodec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalAppend implements an optional interface of Connect, with which it need not copy the
// message. The output is compact, since the white space of protojson differs from build to build.
func (c jsonCodec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	if reply, ok := message.(encoder); ok {
		return reply.AppendJSON(dst)
	}
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is not a protobuf message", message)
	}
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	compact := bytes.NewBuffer(dst)
	if err := json.Compact(compact, text); err != nil {
		return nil, err
	}
	return compact.Bytes(), nil
}

// byteOrderMark is what some editors and Windows' tools write in front of UTF-8. A reader may ignore it
// (RFC 8259 §8.1).
const byteOrderMark = "\uFEFF"

// Unmarshal implements connect.Codec.
func (c jsonCodec) Unmarshal(data []byte, message any) error {
	data = bytes.TrimPrefix(data, []byte(byteOrderMark))
	if request, ok := message.(jsonReader); ok && request.ReadJSON(data) {
		return nil
	}
	m, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is not a protobuf message", message)
	}
	if len(data) == 0 {
		return fmt.Errorf("an empty body is not JSON: send {} for an empty %s", m.ProtoReflect().Descriptor().Name())
	}
	err := nearest.Name(protojson.UnmarshalOptions{}.Unmarshal(data, m), m.ProtoReflect().Descriptor())
	return shortened(nearest.Field(err, data))
}

// MarshalStable and IsBinary are what Connect needs for GET requests.
func (c jsonCodec) MarshalStable(message any) ([]byte, error) { return c.Marshal(message) }

// IsBinary reports that JSON needs no base64 in a URL.
func (c jsonCodec) IsBinary() bool { return false }

// protoCodec is like Connect's codec of that name, but asks the message to encode itself, and its
// errors have the name of the message in the contract instead of a Go type.
type protoCodec struct{}

// Name implements connect.Codec.
func (protoCodec) Name() string { return "proto" }

// Marshal implements connect.Codec.
func (c protoCodec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalAppend implements an optional interface of Connect, with which it need not copy the
// message.
func (protoCodec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	if reply, ok := message.(encoder); ok {
		return reply.AppendProto(dst)
	}
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is not a protobuf message", message)
	}
	return proto.MarshalOptions{}.MarshalAppend(dst, m)
}

// Unmarshal implements connect.Codec.
func (protoCodec) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is not a protobuf message", message)
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return fmt.Errorf("these %d bytes are not a %s in protobuf: %w", len(data), m.ProtoReflect().Descriptor().FullName(), err)
	}
	return nil
}

// MarshalStable and IsBinary are what Connect needs for GET requests.
func (protoCodec) MarshalStable(message any) ([]byte, error) {
	if reply, ok := message.(encoder); ok {
		return reply.AppendProto(nil)
	}
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is not a protobuf message", message)
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// IsBinary reports that protobuf needs base64 in a URL.
func (protoCodec) IsBinary() bool { return true }
