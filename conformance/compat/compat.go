// Package compat is how a program under test talks to the suite that runs it,
// connectrpc.com/conformance: length-prefixed messages on stdin and stdout, and conversions to the
// suite's types for metadata and errors.
package compat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"example.com/roster/conformance/gen/conformancepb"
)

// maxMessageBytes is far more than the length of any message of the suite.
const maxMessageBytes = 16 << 20

// Read reads one message, which follows its length in four bytes, big-endian. It returns io.EOF at
// the end of the input.
func Read(r io.Reader, message proto.Message) error {
	var prefix [4]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(prefix[:])
	if size > maxMessageBytes {
		return fmt.Errorf("a message of %d bytes on stdin: the maximum is %d", size, maxMessageBytes)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return fmt.Errorf("a message of %d bytes on stdin ends early: %w", size, err)
	}
	return proto.Unmarshal(data, message)
}

// Write writes a message after its length, in one call of w.Write.
func Write(w io.Writer, message proto.Message) error {
	data, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 4), message)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(data, uint32(len(data)-4))
	_, err = w.Write(data)
	return err
}

// AddTo adds metadata in the suite's type to a header or trailer.
func AddTo(to http.Header, headers []*conformancepb.Header) {
	for _, header := range headers {
		for _, value := range header.GetValue() {
			to.Add(header.GetName(), value)
		}
	}
}

// Headers returns a header, trailer or query in the suite's type.
func Headers(from map[string][]string) []*conformancepb.Header {
	headers := make([]*conformancepb.Header, 0, len(from))
	for name, values := range from {
		headers = append(headers, &conformancepb.Header{Name: name, Value: values})
	}
	return headers
}

// Error returns the error that the suite asks for, with more details appended to its own.
func Error(asked *conformancepb.Error, more ...proto.Message) error {
	err := connect.NewError(connect.Code(asked.GetCode()), errors.New(asked.GetMessage()))
	var details []proto.Message
	for _, detail := range asked.GetDetails() {
		details = append(details, detail)
	}
	for _, message := range append(details, more...) {
		detail, packErr := connect.NewErrorDetail(message)
		if packErr != nil {
			return packErr
		}
		err.AddDetail(detail)
	}
	return err
}
