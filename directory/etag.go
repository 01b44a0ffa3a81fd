package directory

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
)

// How the epoch of an etag is written. Epochs are the hexadecimal digits of random bytes, which are
// half as long by themselves; any other text stays as it is.
const (
	etagBytes = 1
	etagText  = 2
)

// maxEtag is the most bytes that an etag has: more than that is not one.
const maxEtag = 256

// Etag returns a text that stands for the state of a user: it is another one after each change of the
// user, for each user, and in each epoch. Its characters are letters, digits, - and _.
func Etag(epoch string, record *Record) string {
	kind, name := byte(etagText), []byte(epoch)
	if bytes, err := hex.DecodeString(epoch); err == nil && hex.EncodeToString(bytes) == epoch {
		kind, name = etagBytes, bytes
	}
	data := make([]byte, 0, 48)
	data = append(data, kind)
	data = binary.AppendVarint(data, int64(record.ID))
	data = binary.AppendUvarint(data, uint64(record.Revision))
	data = binary.AppendUvarint(data, uint64(len(name)))
	data = append(data, name...)
	return base64.RawURLEncoding.EncodeToString(data)
}

// ParseEtag returns the id of the user that an etag is of, and the state that it stands for. Whatever
// Etag has not returned is ErrInvalid.
func ParseEtag(text string) (id int32, expected Expected, err error) {
	invalid := fmt.Errorf("%w: %.80q is no etag: give the one that the user was read with", ErrInvalid, text)
	if len(text) > maxEtag {
		return 0, Expected{}, invalid
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(data) < 4 {
		return 0, Expected{}, invalid
	}
	kind, data := data[0], data[1:]
	number, used := binary.Varint(data)
	if used <= 0 || number < math.MinInt32 || number > math.MaxInt32 {
		return 0, Expected{}, invalid
	}
	data = data[used:]
	revision, used := binary.Uvarint(data)
	if used <= 0 || revision == 0 || revision > math.MaxInt64 {
		return 0, Expected{}, invalid
	}
	data = data[used:]
	length, used := binary.Uvarint(data)
	if used <= 0 || length == 0 || length != uint64(len(data)-used) {
		return 0, Expected{}, invalid
	}
	epoch := string(data[used:])
	if kind == etagBytes {
		epoch = hex.EncodeToString(data[used:])
	}
	record := Record{User: User{ID: int32(number)}, Revision: int64(revision)}
	if Etag(epoch, &record) != text {
		return 0, Expected{}, invalid // numbers can be written in longer ways
	}
	return record.ID, Expected{Epoch: epoch, Revision: record.Revision}, nil
}
