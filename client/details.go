package client

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	rosterv1 "example.com/roster/gen/go/roster/v1"
)

// Violation is a field of a request that the server refused (google.rpc.BadRequest).
type Violation struct {
	Field       string // its path, such as "users[3].name"
	Description string // what is wrong with it
	Reason      string // the rule, such as "STRING_MIN_BYTES"; empty if the server does not name it
}

// Violations returns the fields that the server refused, if it named them.
func (e *Error) Violations() []Violation {
	var found []Violation
	for detail := range e.details("google.rpc.BadRequest") {
		var bad errdetails.BadRequest
		if proto.Unmarshal(detail, &bad) != nil {
			continue // a server other than Roster may send anything here
		}
		for _, v := range bad.GetFieldViolations() {
			found = append(found, Violation{v.GetField(), v.GetDescription(), v.GetReason()})
		}
	}
	return found
}

// RetryAfter returns how long the server asked the caller to wait before it tries again
// (google.rpc.RetryInfo); 0 if the server did not say.
func (e *Error) RetryAfter() time.Duration {
	for detail := range e.details("google.rpc.RetryInfo") {
		var info errdetails.RetryInfo
		if proto.Unmarshal(detail, &info) == nil && info.GetRetryDelay().IsValid() {
			return max(0, info.GetRetryDelay().AsDuration())
		}
	}
	return 0
}

// Present returns the user as it is now, of a write that was refused with ABORTED because the user is
// no longer as its etag says; nil if the server did not say.
func (e *Error) Present() *Record {
	for detail := range e.details("roster.v1.User") {
		var user rosterv1.User
		if proto.Unmarshal(detail, &user) == nil {
			present := recordOf(&user)
			return &present
		}
	}
	return nil
}

// RefusedRows returns the rows that were refused, as many as the server names, of an import that was to be
// atomic, and how many there are in all.
func (e *Error) RefusedRows() (rows []RefusedRow, all int64) {
	for detail := range e.details("roster.v1.ImportUsersResponse") {
		var reply rosterv1.ImportUsersResponse
		if proto.Unmarshal(detail, &reply) == nil {
			done := importedOf(&reply)
			return done.RefusedRows, done.Refused
		}
	}
	return nil, 0
}

// details iterates over the error details of one type that the server sent.
func (e *Error) details(name string) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		var rpc *connect.Error
		if !errors.As(e.Err, &rpc) {
			return
		}
		for _, detail := range rpc.Details() {
			if detail.Type() == name && !yield(detail.Bytes()) {
				return
			}
		}
	}
}

// maxViolations is how many violations an error's text lists.
const maxViolations = 5

// violations lists, for the error's text, the violations that text does not mention already.
func (e *Error) violations(text string) string {
	told := slices.DeleteFunc(e.Violations(), func(v Violation) bool {
		return strings.Contains(text, v.Field) && strings.Contains(text, v.Description)
	})
	var b strings.Builder
	for i, v := range told {
		if i == maxViolations {
			fmt.Fprintf(&b, "; and %d more", len(told)-i)
			break
		}
		b.WriteString("; ")
		if v.Field != "" {
			b.WriteString(v.Field + ": ")
		}
		b.WriteString(v.Description)
	}
	return b.String()
}
