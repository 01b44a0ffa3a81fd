package service

import (
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"

	"example.com/roster/directory"
	rosterv1 "example.com/roster/gen/go/roster/v1"
)

// A user of roster.v1 is encoded here by hand, in protobuf and in JSON, since lists and watches have a
// million of them. A fuzz test compares both with what protobuf's own encoders make.

// userMessage is a user as a message of protobuf, for errors that have one as a detail.
func userMessage(user *directory.Record, etag string) *rosterv1.User {
	return &rosterv1.User{
		Id: user.ID, Name: user.Name, Age: user.Age, Email: user.Email,
		CreateTime: timestamp(user.Created), UpdateTime: timestamp(user.Updated),
		Etag: etag, Revision: user.Revision,
	}
}

// timestamp is nil for the zero time, which no user has, but which the answer to a check may.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// The numbers of the fields of a User and of a Timestamp.
const (
	userID protowire.Number = 1 + iota
	userName
	userAge
	userEmail
	userCreateTime
	userUpdateTime
	userEtag
	userRevision
)

// appendUserProto appends a user as protobuf. It fails if a string is not UTF-8, as protobuf does.
func appendUserProto(dst []byte, user *directory.Record, etag string) ([]byte, error) {
	if !utf8.ValidString(user.Name) || !utf8.ValidString(user.Email) {
		return nil, fmt.Errorf("user %d: name or email is not UTF-8", user.ID)
	}
	dst = appendIntProto(dst, userID, int64(user.ID))
	dst = appendTextProto(dst, userName, user.Name)
	dst = appendIntProto(dst, userAge, int64(user.Age))
	dst = appendTextProto(dst, userEmail, user.Email)
	dst = appendTimeProto(dst, userCreateTime, user.Created)
	dst = appendTimeProto(dst, userUpdateTime, user.Updated)
	dst = appendTextProto(dst, userEtag, etag)
	return appendIntProto(dst, userRevision, user.Revision), nil
}

func appendIntProto(dst []byte, field protowire.Number, n int64) []byte {
	if n == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), uint64(n))
}

func appendTextProto(dst []byte, field protowire.Number, text string) []byte {
	if text == "" {
		return dst
	}
	return protowire.AppendString(protowire.AppendTag(dst, field, protowire.BytesType), text)
}

func appendTimeProto(dst []byte, field protowire.Number, t time.Time) []byte {
	if t.IsZero() {
		return dst
	}
	seconds, nanos := t.Unix(), int64(t.Nanosecond())
	size := 0
	if seconds != 0 {
		size += protowire.SizeTag(1) + protowire.SizeVarint(uint64(seconds))
	}
	if nanos != 0 {
		size += protowire.SizeTag(2) + protowire.SizeVarint(uint64(nanos))
	}
	dst = protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.BytesType), uint64(size))
	return appendIntProto(appendIntProto(dst, 1, seconds), 2, nanos)
}

// appendMessageProto appends a field that is a message, which encode appends.
func appendMessageProto(dst []byte, field protowire.Number, encode func([]byte) ([]byte, error)) ([]byte, error) {
	dst = protowire.AppendTag(dst, field, protowire.BytesType)
	start := len(dst)
	dst, err := encode(append(dst, 0)) // a message of less than 128 bytes has a length of one
	if err != nil {
		return nil, err
	}
	size := len(dst) - start - 1
	if more := protowire.SizeVarint(uint64(size)) - 1; more > 0 {
		dst = append(dst, make([]byte, more)...)
		copy(dst[start+1+more:], dst[start+1:start+1+size])
	}
	protowire.AppendVarint(dst[:start], uint64(size))
	return dst, nil
}

// appendUserMessageJSON appends a user as the JSON mapping of protobuf has it, with every field that is
// no message, zero or not, and no space.
func appendUserMessageJSON(dst []byte, user *directory.Record, etag string) []byte {
	dst = append(dst, `{"id":`...)
	dst = strconv.AppendInt(dst, int64(user.ID), 10)
	dst = append(dst, `,"name":`...)
	dst = appendJSONString(dst, user.Name)
	dst = append(dst, `,"age":`...)
	dst = strconv.AppendInt(dst, int64(user.Age), 10)
	dst = append(dst, `,"email":`...)
	dst = appendJSONString(dst, user.Email)
	dst = appendTimeJSON(dst, `,"createTime":"`, user.Created)
	dst = appendTimeJSON(dst, `,"updateTime":"`, user.Updated)
	dst = append(dst, `,"etag":`...)
	dst = appendJSONString(dst, etag)
	dst = append(dst, `,"revision":`...)
	return append(appendInt64JSON(dst, user.Revision), '}')
}

// appendInt64JSON quotes n, since a number of JavaScript has 53 bits only.
func appendInt64JSON(dst []byte, n int64) []byte {
	return append(strconv.AppendInt(append(dst, '"'), n, 10), '"')
}

func appendTimeJSON(dst []byte, before string, t time.Time) []byte {
	if t.IsZero() {
		return dst
	}
	dst = append(dst, before...)
	t = t.UTC()
	// With 0, 3, 6 or 9 digits after the point, as the mapping has it.
	layout := "2006-01-02T15:04:05.000000000Z"
	switch nanos := t.Nanosecond(); {
	case nanos == 0:
		layout = "2006-01-02T15:04:05Z"
	case nanos%1_000_000 == 0:
		layout = "2006-01-02T15:04:05.000Z"
	case nanos%1_000 == 0:
		layout = "2006-01-02T15:04:05.000000Z"
	}
	return append(t.AppendFormat(dst, layout), '"')
}
