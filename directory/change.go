package directory

import (
	"fmt"
	"strings"
	"sync"
)

// MaxEncodings is how many encodings of a change are kept.
const MaxEncodings = 2

// encodings are those of one change that many watches tell of.
type encodings [MaxEncodings]struct {
	once sync.Once
	text []byte
	err  error
}

// Encoded returns what encode makes of the change, for the encoding of this number, less than MaxEncodings.
// All watches that return the same change share the result, which must not be changed: a thousand of them encode it once. It
// must not depend on the watch.
func (c *Change) Encoded(number int, encode func() ([]byte, error)) ([]byte, error) {
	if c.shared == nil {
		return encode()
	}
	e := &c.shared[number]
	e.once.Do(func() { e.text, e.err = encode() })
	return e.text, e.err
}

func (e *ChangeError) Error() string {
	switch {
	case e.Err == nil:
		return fmt.Sprintf("id %d", e.ID)
	case e.Present != nil && e.Present.ID != e.ID:
		return fmt.Sprintf("id %d: %v by id %d", e.ID, e.Err, e.Present.ID)
	}
	return fmt.Sprintf("id %d: %v", e.ID, e.Err)
}

func (e *ChangeError) Unwrap() error { return e.Err }

// Error says how to resynchronise, besides what is wrong.
func (e *HistoryError) Error() string {
	const list = "list the users again, and go on from the revision of the list"
	switch {
	case e.Asked.Epoch != "" && e.Asked.Epoch != e.State.Epoch:
		return fmt.Sprintf("revision %d is of another history (epoch %s, now %s): the store was restored from a backup or replaced; %s",
			e.Asked.Revision, e.Asked.Epoch, e.State.Epoch, list)
	case e.Asked.Revision > e.State.Revision:
		return fmt.Sprintf("revision %d is in the future: the last one is %d; %s", e.Asked.Revision, e.State.Revision, list)
	}
	return fmt.Sprintf("the changes after revision %d are no longer kept: the history begins after revision %d; %s",
		e.Asked.Revision, e.State.Oldest, list)
}

// Unwrap makes it an ErrHistory.
func (e *HistoryError) Unwrap() error { return ErrHistory }

// Matches reports whether a user with this name and email matches the filter.
func (f Filter) Matches(name, email string) bool {
	return matches(f.NamePrefix, f.NameIs, name) && matches(f.EmailPrefix, f.EmailIs, email)
}

func matches(want string, whole bool, text string) bool {
	switch {
	case whole:
		return FoldKey(text) == want
	case want == "":
		return true
	}
	return strings.HasPrefix(FoldKey(text), want)
}
