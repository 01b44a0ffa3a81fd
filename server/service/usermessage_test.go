package service

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"example.com/roster/directory"
	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/server/rpc"
)

// equalEncoding compares what is encoded by hand with what protobuf makes of the same message.
func equalEncoding(t *testing.T, codec rpc.Codec, got []byte, err error, message proto.Message) {
	t.Helper()
	want, wantErr := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if codec == rpc.JSON && wantErr == nil {
		var text []byte
		text, wantErr = protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(message)
		var compact bytes.Buffer
		if wantErr == nil {
			wantErr = json.Compact(&compact, text)
		}
		want = compact.Bytes()
	}
	if wantErr != nil { // in JSON only the codec of protobuf looks
		if codec == rpc.Proto && err == nil {
			t.Errorf("%v is encoded, protobuf says %v", message, wantErr)
		}
		return
	}
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: %v\ngot  %q\nwant %q", codec, err, got, want)
	}
}

// FuzzUserMessages compares every message that is encoded by hand, except BatchGetUsersResponse, which
// FuzzEncodings has.
func FuzzUserMessages(f *testing.F) {
	f.Add(int32(7), "Ann", int32(30), "ann@example.com", int64(1_700_000_000_123_456), int64(7), "epoch", "actor", uint8(2))
	f.Add(int32(math.MinInt32), "\"\\\u2028", int32(math.MinInt32), "", int64(0), int64(0), "", "", uint8(0))
	f.Add(int32(math.MaxInt32), strings.Repeat("n", 256), int32(math.MaxInt32), strings.Repeat("é", 160), int64(-1), int64(math.MaxInt64), "e", "a\n", uint8(255))
	f.Add(int32(0), "\xff", int32(0), "x", int64(1_000_000), int64(-1), "e", "a", uint8(4))
	f.Add(int32(1), "A", int32(0), "x", int64(1_001_000), int64(1), "e", "a", uint8(3))
	f.Fuzz(func(t *testing.T, id int32, name string, age int32, email string, micros, revision int64, epoch, actor string, bits uint8) {
		at := time.UnixMicro(micros).UTC()
		if at.Year() < 1 || at.Year() > 9999 || len(epoch) > 1000 {
			t.Skip()
		}
		for _, text := range []string{epoch, actor} {
			if strings.ToValidUTF8(text, "") != text {
				t.Skip() // the server makes them
			}
		}
		state := directory.State{Epoch: epoch, Revision: revision, Oldest: int64(id)}
		record := directory.Record{User: directory.User{ID: id, Name: name, Age: age, Email: email}, Created: at, Updated: at.Add(time.Millisecond), Revision: revision}
		if bits&1 != 0 {
			record.Updated = time.Time{}
		}
		small := directory.Record{User: directory.User{ID: 2, Name: "B"}}
		records := []directory.Record{record, small}[:bits%3]
		message := func(r *directory.Record) *rosterv1.User { return userMessage(r, etagOf(epoch, r)) }
		var users []*rosterv1.User
		for i := range records {
			users = append(users, message(&records[i]))
		}
		changes := make([]directory.Change, bits%4)
		history := &rosterv1.ListChangesResponse{NextPageToken: actor, Revision: revision, Epoch: epoch, OldestRevision: int64(id)}
		for i := range changes {
			changes[i] = directory.Change{Revision: revision, Time: at, Actor: actor, Kind: directory.Kind(1 + i), User: record}
			told := &rosterv1.Change{Kind: kinds[changes[i].Kind], Id: id, Revision: revision, Actor: actor, Time: timestamppb.New(at)}
			if changes[i].Kind != directory.Deleted {
				told.User = message(&record)
			}
			history.Changes = append(history.Changes, told)
		}
		for _, codec := range []rpc.Codec{rpc.Proto, rpc.JSON} {
			encode := func(e encoder) ([]byte, error) {
				if codec == rpc.JSON {
					return e.AppendJSON(nil)
				}
				return e.AppendProto(nil)
			}
			got, err := appendList(codec, &directory.Page{Users: records, Total: revision}, actor, state)
			equalEncoding(t, codec, got, err, &rosterv1.ListUsersResponse{Users: users, NextPageToken: actor, TotalSize: revision, Revision: revision, Epoch: epoch})
			got, err = appendHistory(codec, changes, actor, state)
			equalEncoding(t, codec, got, err, history)
			got, err = appendBatch(codec, &directory.Written{State: state, Created: records, Updated: records})
			equalEncoding(t, codec, got, err, &rosterv1.BatchUpdateUsersResponse{Created: users, Updated: users, Revision: revision, Epoch: epoch})
			got, err = encode(&exportPart{records, state})
			equalEncoding(t, codec, got, err, &rosterv1.ExportUsersResponse{Users: users, Revision: revision, Epoch: epoch})
		}
	})
}
