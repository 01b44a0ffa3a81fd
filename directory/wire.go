package directory

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"example.com/roster/gen/go/apipb"
)

// An entry is a user as callers get it: as a value, and encoded once for all.
type entry struct {
	user    User
	encoded [forms]string
}

// A form is how a user is encoded.
type form int

const (
	// wireForm is one element of UserReply.data: tag, length, message. The field
	// may stand in pieces, one element each: a message is the concatenation of
	// its fields.
	wireForm form = iota
	// jsonForm is the JSON object of the user with a comma after it, so that
	// elements are put together like those of wireForm.
	jsonForm
	forms
)

// replyData is the number of UserReply.data in the frozen contract.
const replyData = 2

// newEntry encodes user. It fails for a string that is not UTF-8, which no
// Store lets in, but a hand with another program might.
func newEntry(user *User) (*entry, error) {
	message, err := proto.Marshal(&apipb.User{Name: user.Name, Age: user.Age, Email: user.Email})
	if err != nil {
		return nil, fmt.Errorf("encode user %d: %w", user.ID, err)
	}
	text := make([]byte, 0, 2*len(message)+64)
	text = protowire.AppendTag(text, replyData, protowire.BytesType)
	text = protowire.AppendBytes(text, message)
	wireEnd := len(text)
	text = append(appendJSON(text, user), ',')
	// One piece of memory for all that a user has: its strings stand in its
	// encodings, so that keeping both costs little more than keeping neither.
	all := string(text)
	return &entry{
		user:    User{ID: user.ID, Name: within(all, user.Name), Age: user.Age, Email: within(all, user.Email)},
		encoded: [forms]string{wireForm: all[:wireEnd], jsonForm: all[wireEnd:]},
	}, nil
}

// within is part, as the first piece of all that equals it.
func within(all, part string) string {
	at := strings.Index(all, part)
	return all[at : at+len(part)]
}

// appendJSON appends user as the JSON mapping of protobuf has it, with every
// field, zero or not, and no space.
func appendJSON(dst []byte, user *User) []byte {
	dst = append(dst, `{"name":`...)
	dst = appendJSONString(dst, user.Name)
	dst = append(dst, `,"age":`...)
	dst = strconv.AppendInt(dst, int64(user.Age), 10)
	dst = append(dst, `,"email":`...)
	dst = appendJSONString(dst, user.Email)
	return append(dst, '}')
}

// appendJSONString quotes s, which is UTF-8, and escapes what JSON demands and
// no more (RFC 8259 §7).
func appendJSONString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	done := 0 // bytes of s that dst has
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[done:i]...)
		done = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
	}
	dst = append(dst, s[done:]...)
	return append(dst, '"')
}
