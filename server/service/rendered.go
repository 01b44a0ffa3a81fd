package service

import (
	"context"
	"slices"
	"strconv"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"

	"example.com/roster/directory"
	"example.com/roster/server/rpc"
)

// renderings are the encodings of a user as an element of the list of one reply: in protobuf with
// the tag and the length of the field, since a field may stand in pieces (a message is the
// concatenation of its fields), and in JSON with a comma after it.
type renderings [rpc.Codecs]directory.RenderingID

// renderUsers has dir keep the encodings of a user in the field of this number. appendProto appends the
// message that stands for a user, and appendJSON its JSON object.
func renderUsers(dir *directory.Directory, name string, field protowire.Number,
	appendProto func(dst []byte, user *directory.Record, epoch string) ([]byte, error),
	appendJSON func(dst []byte, user *directory.Record, epoch string) []byte) renderings {
	return renderings{
		rpc.Proto: dir.Render(name+", protobuf", func(dst []byte, user *directory.Record, epoch string) ([]byte, error) {
			return appendMessageProto(dst, field, func(dst []byte) ([]byte, error) { return appendProto(dst, user, epoch) })
		}),
		rpc.JSON: dir.Render(name+", JSON", func(dst []byte, user *directory.Record, epoch string) ([]byte, error) {
			return append(appendJSON(dst, user, epoch), ','), nil
		}),
	}
}

// foundUsers is the list of users of a reply.
type foundUsers struct {
	renderings renderings
	entries    []*directory.Entry // nil for an id that nobody has
	room       int                // what size returned last: about what the list takes
}

// look looks ids up.
func (f *foundUsers) look(ctx context.Context, dir *directory.Directory, ids []int32) (err error) {
	f.entries, err = dir.Entries(ctx, f.entries[:0], ids)
	return err
}

// size is how many bytes the list has in a codec.
func (f *foundUsers) size(codec rpc.Codec) int {
	size := 0
	for _, e := range f.entries {
		if e != nil {
			size += len(e.Rendered(f.renderings[codec]))
		}
	}
	f.room = size
	return size
}

// appendProto appends the elements of the list, each with its tag.
func (f *foundUsers) appendProto(dst []byte) []byte { return f.append(dst, rpc.Proto) }

// appendJSON appends the elements of the list, with commas between them.
func (f *foundUsers) appendJSON(dst []byte) []byte {
	start := len(dst)
	dst = f.append(dst, rpc.JSON)
	if len(dst) > start {
		dst = dst[:len(dst)-1] // the comma after the last
	}
	return dst
}

func (f *foundUsers) append(dst []byte, codec rpc.Codec) []byte {
	id := f.renderings[codec]
	dst = slices.Grow(dst, f.room+replyEnds)
	for _, e := range f.entries {
		if e != nil {
			dst = append(dst, e.Rendered(id)...)
		}
	}
	return dst
}

// replyEnds is room for what follows the users in a reply without unknown ids, in bytes.
const replyEnds = 64

// maxPooledEntries is how many users a reply may have had to be kept for another call: with more,
// it would hold more memory than it saves.
const maxPooledEntries = 20_000

// giveBack empties the list, so that the reply holds no user while it waits in its pool for another
// call, and reports whether it is small enough for that.
func (f *foundUsers) giveBack() bool {
	clear(f.entries)
	return cap(f.entries) <= maxPooledEntries
}

// pooled returns a reply of a pool, a new one if it is empty.
func pooled[R any](pool *sync.Pool) *R {
	if reply, ok := pool.Get().(*R); ok {
		return reply
	}
	return new(R)
}

// codecOf is the codec of the call of ctx. Without the record of a call, which every call through a
// port has, it is JSON, whose replies are the longer ones, so that no bound is missed.
func codecOf(ctx context.Context) rpc.Codec {
	if c := rpc.From(ctx); c != nil {
		return c.Codec
	}
	return rpc.JSON
}

// appendUserJSON appends a user of MyService as the JSON mapping of protobuf has it, with every
// field, zero or not, and no space.
func appendUserJSON(dst []byte, user *directory.Record, _ string) []byte {
	dst = append(dst, `{"name":`...)
	dst = appendJSONString(dst, user.Name)
	dst = append(dst, `,"age":`...)
	dst = strconv.AppendInt(dst, int64(user.Age), 10)
	dst = append(dst, `,"email":`...)
	dst = appendJSONString(dst, user.Email)
	return append(dst, '}')
}

// appendJSONString quotes s, which is UTF-8, and escapes what JSON demands and no more (RFC 8259
// §7).
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
