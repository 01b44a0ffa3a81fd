package server

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/gen/go/roster/v1/rosterv1connect"
)

// The streams of the directory do the same in every protocol and both codecs, over HTTP/2 and HTTP/1.1.
func TestTheStreamsOfTheDirectory(t *testing.T) {
	for name, options := range directoryProtocols {
		for _, http2 := range []bool{true, false} {
			for _, standard := range []bool{false, true} {
				t.Run(fmt.Sprint(name, " HTTP/2 ", http2, " standard ", standard), func(t *testing.T) {
					_, p := users(t, Config{StandardHTTP2: standard})
					testStreams(t, rosterv1connect.NewDirectoryServiceClient(client(t, http2), "http://"+p.address, options...))
				})
			}
		}
	}
}

func testStreams(t *testing.T, c rosterv1connect.DirectoryServiceClient) {
	ctx := t.Context()
	watch := must[*connect.ServerStreamForClient[rosterv1.WatchUsersResponse]](t)(c.WatchUsers(ctx, &rosterv1.WatchUsersRequest{
		Start: &rosterv1.WatchUsersRequest_FromBeginning{FromBeginning: true}, Filter: `email = "*"`, ProgressInterval: durationpb.New(10 * 60e9)}))
	defer watch.Close()
	told := func() string {
		t.Helper()
		if !watch.Receive() {
			t.Fatalf("the watch ended: %v", watch.Err())
		}
		if change := watch.Msg().GetChange(); change != nil {
			return fmt.Sprint(change.GetKind(), " ", change.GetId(), " ", change.GetUser().GetName(), " at ", change.GetRevision())
		}
		return fmt.Sprint("progress at ", watch.Msg().GetProgress().GetRevision())
	}
	if got := told(); got != "progress at 0" {
		t.Errorf("the watch begins with %s", got)
	}
	const rows = 1200 // of several messages, in and out
	reply, err := importRows(t, c, rows)
	if err != nil || reply.GetImported() != rows || reply.GetCreated() != rows || reply.GetRefused() != 0 || reply.GetRevision() != 1 {
		t.Fatalf("the import: %v, %v", reply, err)
	}
	for id := 1; id <= rows; id++ {
		if got, want := told(), fmt.Sprintf("KIND_CREATED %d User %d at 1", id, id); got != want {
			t.Fatalf("the watch tells of %s, want %s", got, want)
		}
	}
	must[*rosterv1.DeleteUserResponse](t)(c.DeleteUser(ctx, &rosterv1.DeleteUserRequest{Id: 7}))
	if got := told(); got != "KIND_DELETED 7  at 2" {
		t.Errorf("the watch tells of %s", got)
	}

	export := must[*connect.ServerStreamForClient[rosterv1.ExportUsersResponse]](t)(c.ExportUsers(ctx, &rosterv1.ExportUsersRequest{}))
	defer export.Close()
	var exported, messages int
	for ; export.Receive(); messages++ {
		exported += len(export.Msg().GetUsers())
		if export.Msg().GetRevision() != 2 || export.Msg().GetEpoch() != reply.GetEpoch() {
			t.Errorf("an export of %d, %s", export.Msg().GetRevision(), export.Msg().GetEpoch())
		}
	}
	if export.Err() != nil || exported != rows-1 || messages < 3 {
		t.Errorf("%d users were exported in %d messages: %v", exported, messages, export.Err())
	}

	// The errors of streams: with the options after the first message, with a row too many, from the future.
	stream := must[*connect.ClientStreamForClientSimple[rosterv1.ImportUsersRequest, rosterv1.ImportUsersResponse]](t)(c.ImportUsers(ctx))
	_ = stream.Send(&rosterv1.ImportUsersRequest{})
	_ = stream.Send(&rosterv1.ImportUsersRequest{Options: &rosterv1.ImportOptions{}})
	_, err = stream.CloseAndReceive()
	wantError(t, err, connect.CodeInvalidArgument, "options: only the first message may have them")
	stream = must[*connect.ClientStreamForClientSimple[rosterv1.ImportUsersRequest, rosterv1.ImportUsersResponse]](t)(c.ImportUsers(ctx))
	_ = stream.Send(&rosterv1.ImportUsersRequest{Users: make([]*rosterv1.User, 10_001)})
	_, err = stream.CloseAndReceive()
	wantError(t, err, connect.CodeInvalidArgument, "users: must contain no more than 10000 item(s)")
	future := must[*connect.ServerStreamForClient[rosterv1.WatchUsersResponse]](t)(c.WatchUsers(ctx, &rosterv1.WatchUsersRequest{
		Start: &rosterv1.WatchUsersRequest_FromRevision{FromRevision: 3}}))
	defer future.Close()
	if future.Receive() {
		t.Errorf("a watch from the future has %v", future.Msg())
	}
	wantError(t, future.Err(), connect.CodeOutOfRange, "revision 3 is in the future: the last one is 2; list the users again")
}

// A stream cannot be had as a unary call of Connect; the answer says what to use.
func TestStreamsAsUnaryCalls(t *testing.T) {
	_, p := users(t, Config{})
	for _, method := range []string{"ImportUsers", "ExportUsers", "WatchUsers"} {
		for contentType, want := range map[string]string{
			"application/json":  "application/connect+json",
			"application/proto": "application/connect+proto",
		} {
			for _, http2 := range []bool{false, true} {
				response, text := p.post(http2, "/roster.v1.DirectoryService/"+method, contentType, bytes.NewReader(envelope(0, nil)))
				if response.StatusCode != http.StatusUnsupportedMediaType || !strings.Contains(response.Header.Get("Accept-Post"), want) || !strings.Contains(text, "content-type") {
					t.Errorf("%s as %s, HTTP/2 %v: %d %v\n%s", method, contentType, http2, response.StatusCode, response.Header, text)
				}
			}
		}
	}
}
