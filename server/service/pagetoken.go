package service

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"connectrpc.com/connect"

	"example.com/roster/directory"
)

// A page token says where the next page begins, and of what. It has a checksum and no signature: whoever
// makes one up gets the page that it describes, which a filter or a from_revision would have given as
// well. So it needs no secret, and holds for every process on the same store and after a restart.
//
// It is base64 of: the kind, a checksum of what follows, and then numbers (varint) and texts (with
// their length in front).
type pageToken struct {
	kind byte
	// of is what the token is a page of: a filter and an order.
	of [tokenSum]byte
	// state is the epoch of all pages, and the revision of the first one.
	state directory.State
	// after is the last user of the page before, in a list of users.
	after directory.PageKey
	// cursor is where a list of changes goes on.
	cursor directory.Cursor
}

// The kinds of page tokens. A new form of one gets another letter, so that an old token is told.
const (
	usersToken   = 'u'
	changesToken = 'c'
)

// tokenSum is the length of a checksum, in bytes: long enough that no change is missed by chance.
const tokenSum = 8

var tokenEncoding = base64.RawURLEncoding.Strict()

// checksum is one of several texts.
func checksum(texts ...string) (sum [tokenSum]byte) {
	hash := sha256.New()
	for _, text := range texts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(text)))
		hash.Write(length[:])
		hash.Write([]byte(text))
	}
	copy(sum[:], hash.Sum(nil))
	return sum
}

// ofList is what the pages of a list of users have in common. A filter counts by what it means.
func ofList(filter directory.Filter, byName, descending bool) [tokenSum]byte {
	return checksum(filter.NamePrefix, filter.EmailPrefix, fmt.Sprint(filter.NameIs, filter.EmailIs, byName, descending))
}

func (t *pageToken) String() string {
	var body []byte
	text := func(s string) { body = append(binary.AppendUvarint(body, uint64(len(s))), s...) }
	number := func(n int64) { body = binary.AppendVarint(body, n) }
	text(t.state.Epoch)
	number(t.state.Revision)
	switch t.kind {
	case usersToken:
		text(string(t.of[:]))
		number(int64(t.after.ID))
		text(t.after.NameKey)
	case changesToken:
		number(t.cursor.Revision)
		number(int64(t.cursor.Skip))
	}
	sum := checksum(string(t.kind), string(body))
	return tokenEncoding.EncodeToString(append(append([]byte{t.kind}, sum[:]...), body...))
}

// parsePageToken reads a token of a kind.
func parsePageToken(text string, kind byte) (*pageToken, error) {
	data, err := tokenEncoding.DecodeString(text)
	if err != nil || len(data) < 1+tokenSum {
		return nil, wrongToken("is not a page token, or was cut")
	}
	t := &pageToken{kind: data[0]}
	if got, want := [tokenSum]byte(data[1:]), checksum(string(t.kind), string(data[1+tokenSum:])); got != want {
		return nil, wrongToken("was changed, cut, or made by another version of the server")
	}
	if t.kind != kind {
		return nil, wrongToken("is of another method")
	}
	r := tokenReader{data: data[1+tokenSum:]}
	t.state.Epoch, t.state.Revision = r.text(), r.number()
	switch kind {
	case usersToken:
		copy(t.of[:], r.text())
		t.after = directory.PageKey{ID: int32(r.number()), NameKey: r.text()}
	case changesToken:
		t.cursor = directory.Cursor{Epoch: t.state.Epoch, Revision: r.number(), Skip: int(r.number())}
	}
	if r.failed || len(r.data) > 0 {
		return nil, wrongToken("was made by another version of the server")
	}
	return t, nil
}

// wrongToken is the error of a token that cannot be used. To begin anew is what helps in any case.
func wrongToken(what string) error {
	return violation("page_token", "PAGE_TOKEN", what+
		": send next_page_token as it came, with the filter and the order of its page, or begin with the first page")
}

// anotherEpoch is the error of a token whose pages can no longer go on.
func anotherEpoch(token, now string) error {
	return connect.NewError(connect.CodeOutOfRange, fmt.Errorf(
		"page_token is of another history (epoch %s, now %s): the store was restored from a backup or replaced; begin with the first page", token, now))
}

// A tokenReader takes values off the front of data.
type tokenReader struct {
	data   []byte
	failed bool
}

func (r *tokenReader) number() int64 {
	n, size := binary.Varint(r.data)
	if size <= 0 {
		r.failed, size = true, 0
	}
	r.data = r.data[size:]
	return n
}

func (r *tokenReader) text() string {
	length, size := binary.Uvarint(r.data)
	if size <= 0 || length > uint64(len(r.data)-size) {
		r.failed = true
		return ""
	}
	text := r.data[size : size+int(length)]
	r.data = r.data[size+int(length):]
	return string(text)
}

// violation is the error for one field of a request.
func violation(field, reason, description string) error {
	return badRequest([]fieldViolation{{field, reason, description}})
}

// A fieldViolation says what is wrong with a field of a request.
type fieldViolation struct{ field, reason, description string }
