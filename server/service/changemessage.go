package service

import (
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"example.com/roster/directory"
	rosterv1 "example.com/roster/gen/go/roster/v1"
)

// A change of roster.v1 is encoded here by hand, as a user is.

// A toldChange is a change as a caller is told of it.
type toldChange struct {
	*directory.Change
	kind rosterv1.Change_Kind
	etag string
	// attributed says that the caller is told who made the change, and when.
	attributed bool
}

// kinds are the names of the kinds of changes, by those of directory.
var kinds = map[directory.Kind]rosterv1.Change_Kind{
	directory.Created: rosterv1.Change_KIND_CREATED,
	directory.Updated: rosterv1.Change_KIND_UPDATED,
	directory.Deleted: rosterv1.Change_KIND_DELETED,
	// Of watches alone:
	directory.Existing: rosterv1.Change_KIND_EXISTING,
	directory.Left:     rosterv1.Change_KIND_LEFT,
}

// hasUser reports whether the caller is told how the user is now.
func (c *toldChange) hasUser() bool {
	return c.kind != rosterv1.Change_KIND_DELETED && c.kind != rosterv1.Change_KIND_LEFT
}

// The numbers of the fields of a Change.
const (
	changeKind protowire.Number = 1 + iota
	changeID
	changeUser
	changeRevision
	changeActor
	changeTime
)

func (c *toldChange) appendProto(dst []byte) (_ []byte, err error) {
	dst = appendIntProto(dst, changeKind, int64(c.kind))
	dst = appendIntProto(dst, changeID, int64(c.User.ID))
	if c.hasUser() {
		dst, err = appendMessageProto(dst, changeUser, func(dst []byte) ([]byte, error) { return appendUserProto(dst, &c.User, c.etag) })
		if err != nil {
			return nil, err
		}
	}
	dst = appendIntProto(dst, changeRevision, c.Revision)
	if c.attributed {
		dst = appendTextProto(dst, changeActor, c.Actor)
		dst = appendTimeProto(dst, changeTime, c.Time)
	}
	return dst, nil
}

func (c *toldChange) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"kind":"`...)
	dst = append(dst, c.kind.String()...)
	dst = append(dst, `","id":`...)
	dst = strconv.AppendInt(dst, int64(c.User.ID), 10)
	if c.hasUser() {
		dst = appendUserMessageJSON(append(dst, `,"user":`...), &c.User, c.etag)
	}
	dst = appendInt64JSON(append(dst, `,"revision":`...), c.Revision)
	dst = append(dst, `,"actor":`...)
	if !c.attributed {
		return append(dst, `""}`...)
	}
	dst = appendJSONString(dst, c.Actor)
	return append(appendTimeJSON(dst, `,"time":"`, c.Time), '}')
}

// appendStateProto appends the last two fields of many replies: a revision and its epoch.
func appendStateProto(dst []byte, revision protowire.Number, state directory.State) []byte {
	return appendTextProto(appendIntProto(dst, revision, state.Revision), revision+1, state.Epoch)
}

// appendStateJSON does the same in JSON, after a comma.
func appendStateJSON(dst []byte, state directory.State) []byte {
	dst = appendInt64JSON(append(dst, `,"revision":`...), state.Revision)
	return appendJSONString(append(dst, `,"epoch":`...), state.Epoch)
}
