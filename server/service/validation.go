package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Bounds on the size of the error for an invalid request. All of it travels in one header or
// trailer, in base64 and together with the text, and grpcio accepts 8 KiB of those.
const (
	// maxViolations is how many violations an error lists, and maxDetailBytes how many bytes they may
	// take together.
	maxViolations  = 20
	maxDetailBytes = 3 << 10
	// maxInText is how many of them are in the error's text as well.
	maxInText = 3
	// maxFieldBytes and maxDescriptionBytes bound the parts of one violation.
	maxFieldBytes       = 100
	maxDescriptionBytes = 200
	// maxValueRunes is how many characters of an invalid value are shown.
	maxValueRunes = 40
)

// validation is an interceptor that refuses requests which break the rules in their protos. Only
// the handlers of services with rules have it, since it costs time for the others, too.
type validation struct {
	validator func() (protovalidate.Validator, error)
}

// newValidation returns the validation of a service's requests. Its rules are compiled, all at
// once, at the first request, because they take 3 ms, and a megabyte of memory that a server
// without such requests does not need.
func newValidation(service protoreflect.ServiceDescriptor) validation {
	return validation{sync.OnceValues(func() (protovalidate.Validator, error) {
		var requests []protoreflect.MessageDescriptor
		for i := range service.Methods().Len() {
			requests = append(requests, service.Methods().Get(i).Input())
		}
		return protovalidate.New(protovalidate.WithMessageDescriptors(requests...), protovalidate.WithDisableLazy())
	})}
}

// WrapUnary implements connect.Interceptor.
func (v validation) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		if err := v.check(request.Any()); err != nil {
			return nil, err
		}
		return next(ctx, request)
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (v validation) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return next(ctx, validatedConn{conn, v})
	}
}

// WrapStreamingClient implements connect.Interceptor. A server never calls it.
func (v validation) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// validatedConn validates each message that a stream receives.
type validatedConn struct {
	connect.StreamingHandlerConn
	validation validation
}

// Receive implements connect.StreamingHandlerConn.
func (c validatedConn) Receive(message any) error {
	if err := c.StreamingHandlerConn.Receive(message); err != nil {
		return err
	}
	return c.validation.check(message)
}

// check returns the error of a message that breaks its rules, nil if it breaks none.
func (v validation) check(message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is not a protobuf message", message)
	}
	broken, err := v.broken(m)
	if len(broken) > 0 {
		return invalid(broken)
	}
	return err
}

// broken returns the rules that a message breaks. The error is that of a rule that cannot be evaluated, a
// fault of the server.
func (v validation) broken(m proto.Message, options ...protovalidate.ValidationOption) ([]*protovalidate.Violation, error) {
	validator, err := v.validator()
	if err != nil {
		return nil, err // a rule in the proto does not compile, which every test would have shown
	}
	err = validator.Validate(m, options...)
	if broken := (*protovalidate.ValidationError)(nil); errors.As(err, &broken) {
		return broken.Violations, nil
	}
	return nil, err
}

// brokenFields returns what is wrong with the fields of m that named says, each with prefix before its
// name. Other fields may break their rules.
func (v validation) brokenFields(m proto.Message, prefix string, named func(protoreflect.Name) bool) ([]fieldViolation, error) {
	violations, err := v.broken(m, protovalidate.WithFilter(protovalidate.FilterFunc(
		func(_ protoreflect.Message, descriptor protoreflect.Descriptor) bool {
			field, ok := descriptor.(protoreflect.FieldDescriptor)
			return !ok || named(field.Name())
		})))
	var broken []fieldViolation
	for _, v := range violations {
		broken = append(broken, fieldViolation{prefix + protovalidate.FieldPathString(v.Proto.GetField()), reason(v.Proto.GetRuleId()), describe(v)})
	}
	return broken, err
}

// invalid returns the error for a request that broke rules of its proto.
func invalid(violations []*protovalidate.Violation) *connect.Error {
	broken := make([]fieldViolation, 0, min(len(violations), maxViolations+1))
	for _, v := range violations[:cap(broken)] {
		broken = append(broken, fieldViolation{protovalidate.FieldPathString(v.Proto.GetField()), reason(v.Proto.GetRuleId()), describe(v)})
	}
	return badRequestOf(broken, len(violations))
}

// badRequest returns the error for a request with these faults.
func badRequest(violations []fieldViolation) *connect.Error {
	return badRequestOf(violations, len(violations))
}

// badRequestOf returns the error for a request with so many faults, of which violations are the first: a
// text for people, which needs nothing besides, and for programs a google.rpc.BadRequest, which clients in
// every language can decode.
func badRequestOf(violations []fieldViolation, all int) *connect.Error {
	var details errdetails.BadRequest
	var text strings.Builder
	size := 0
	for i, violation := range violations {
		field := cut(violation.field, maxFieldBytes)
		description := cut(violation.description, maxDescriptionBytes)
		if i < maxInText {
			if i > 0 {
				text.WriteString("; ")
			}
			if field != "" { // a rule about the whole message has no field
				text.WriteString(field + ": ")
			}
			text.WriteString(description)
		}
		detail := &errdetails.BadRequest_FieldViolation{Field: field, Description: description, Reason: violation.reason}
		if size += proto.Size(detail) + 4; len(details.FieldViolations) == maxViolations || size > maxDetailBytes {
			break
		}
		details.FieldViolations = append(details.FieldViolations, detail)
	}
	if more := all - maxInText; more > 0 {
		fmt.Fprintf(&text, "; and %d more", more)
	}
	err := connect.NewError(connect.CodeInvalidArgument, errors.New(text.String()))
	if detail, failed := connect.NewErrorDetail(&details); failed == nil {
		err.AddDetail(detail)
	}
	return err
}

// describe returns the rule that was broken, and the value that broke it.
func describe(violation *protovalidate.Violation) string {
	text := strings.TrimPrefix(violation.Proto.GetMessage(), "value ")
	if text == "" {
		text = "breaks the rule " + violation.Proto.GetRuleId()
	}
	field, value := violation.FieldDescriptor, violation.FieldValue
	switch {
	case field == nil || !value.IsValid() || violation.Proto.GetForKey():
		return text
	}
	switch value := value.Interface().(type) {
	case protoreflect.List:
		return text + ", has " + strconv.Itoa(value.Len())
	case protoreflect.Map:
		return text + ", has " + strconv.Itoa(value.Len())
	case string:
		if len(value) > 4*maxValueRunes {
			return fmt.Sprintf("%s, has %d bytes", text, len(value))
		}
		if value == "" {
			return text + ", is empty"
		}
		return fmt.Sprintf("%s, is %q", text, cutRunes(value, maxValueRunes))
	case bool, int32, int64, uint32, uint64, float32, float64:
		return fmt.Sprintf("%s, is %v", text, value)
	}
	return text
}

// reason returns the name of a rule in the form that google.rpc has for reasons: INT32_GTE for
// "int32.gte".
func reason(rule string) string {
	return cut(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, rule), 63)
}

// cut shortens text to at most n bytes without splitting a character.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	const ellipsis = "…"
	end := n - len(ellipsis)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}

// cutRunes shortens text to at most n characters.
func cutRunes(text string, n int) string {
	if runes := []rune(text); len(runes) > n {
		return string(slices.Concat(runes[:n-1], []rune("…")))
	}
	return text
}
