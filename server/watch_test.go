package server

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/gen/go/roster/v1/rosterv1connect"
)

// A caller of WatchUsers who does not read is dropped once the feed needs its room, in whatever protocol it
// called, and is told where to go on. Writers go on, and so do those who read.
func TestASlowWatchIsDropped(t *testing.T) {
	const batches, perBatch = 9, 1000 // more changes than the feed keeps
	const total = batches*perBatch + 1
	c, p := users(t, Config{})
	quick := must[*connect.ServerStreamForClient[rosterv1.WatchUsersResponse]](t)(c.WatchUsers(t.Context(), &rosterv1.WatchUsersRequest{}))
	t.Cleanup(func() { quick.Close() })
	if !quick.Receive() || quick.Msg().GetProgress() == nil {
		t.Fatalf("the first message: %v, %v", quick.Msg(), quick.Err())
	}
	all := make(chan string, 1)
	go func() { all <- followAll(quick, total) }()
	streams := map[string]*connect.ServerStreamForClient[rosterv1.WatchUsersResponse]{}
	for name, options := range directoryProtocols {
		stream, err := p.unreading(options...).WatchUsers(t.Context(), &rosterv1.WatchUsersRequest{ProgressInterval: durationpb.New(10 * time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stream.Close() })
		if !stream.Receive() || stream.Msg().GetProgress() == nil {
			t.Fatalf("%s: the first message: %v, %v", name, stream.Msg(), stream.Err())
		}
		streams[name] = stream
	}
	long := strings.Repeat("n", 200) // so that little is on the way to a caller who does not read
	for batch := range batches {
		request := &rosterv1.BatchUpdateUsersRequest{}
		for i := range perBatch {
			request.Creates = append(request.Creates, create(int32(1+batch*perBatch+i), long, ""))
		}
		must[*rosterv1.BatchUpdateUsersResponse](t)(c.BatchUpdateUsers(t.Context(), request))
	}
	must[*rosterv1.User](t)(c.CreateUser(t.Context(), create(total, "Last", "")))
	dropped := func() uint64 { return p.server.config.Directory.Stats().WatchesSlow }
	for deadline := time.Now().Add(time.Minute); dropped() < uint64(len(streams)); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d watches were dropped", dropped(), len(streams))
		}
	}
	if got := <-all; got != "" {
		t.Errorf("one who reads: %s", got)
	}
	for name, stream := range streams {
		t.Run(name, func(t *testing.T) { wantDropped(t, c, stream, batches+1, total) })
	}
}

var directoryProtocols = map[string][]connect.ClientOption{
	"gRPC": {connect.WithGRPC()}, "gRPC-Web": {connect.WithGRPCWeb()}, "Connect": nil, "Connect JSON": {connect.WithProtoJSON()},
	"gRPC JSON": {connect.WithGRPC(), connect.WithProtoJSON()},
}

// unreading is a client on a connection of its own, which takes little more than what it is asked for.
func (p *port) unreading(options ...connect.ClientOption) rosterv1connect.DirectoryServiceClient {
	c := client(p.t, true)
	c.Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
	return rosterv1connect.NewDirectoryServiceClient(c, "http://"+p.address, options...)
}

// followAll reads n changes, and returns what is wrong with them.
func followAll(stream *connect.ServerStreamForClient[rosterv1.WatchUsersResponse], n int) string {
	for told := 0; told < n; {
		if !stream.Receive() {
			return fmt.Sprintf("after %d changes: %v", told, stream.Err())
		}
		if change := stream.Msg().GetChange(); change != nil {
			if told++; change.GetId() != int32(told) {
				return fmt.Sprintf("change %d is of id %d", told, change.GetId())
			}
		}
	}
	return ""
}

var goOn = regexp.MustCompile(`^resource_exhausted: the changes of this watch are read more slowly than they are made, so it was ended: ` +
	`watch again from revision (\d+), the last progress$`)

// wantDropped reads a watch to its end, which must be that it was too slow, and goes on where it says, up to the
// last revision and the last id.
func wantDropped(t *testing.T, c rosterv1connect.DirectoryServiceClient, stream *connect.ServerStreamForClient[rosterv1.WatchUsersResponse], last int64, lastID int32) {
	epoch, told := stream.Msg().GetProgress().GetEpoch(), int32(0)
	for stream.Receive() {
		if change := stream.Msg().GetChange(); change != nil {
			if told++; change.GetId() != told {
				t.Fatalf("change %d is of id %d", told, change.GetId())
			}
		}
	}
	err := stream.Err()
	where := goOn.FindStringSubmatch(fmt.Sprint(err))
	if where == nil || connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Fatalf("it ended after %d changes with %v", told, err)
	}
	if delay := retryDelay(t, err); delay != time.Second {
		t.Errorf("it is told to wait %v", delay)
	}
	from, _ := strconv.ParseInt(where[1], 10, 64)
	again := must[*connect.ServerStreamForClient[rosterv1.WatchUsersResponse]](t)(c.WatchUsers(t.Context(), &rosterv1.WatchUsersRequest{
		Start: &rosterv1.WatchUsersRequest_FromRevision{FromRevision: from}, Epoch: epoch, ProgressInterval: durationpb.New(100 * time.Millisecond)}))
	defer again.Close()
	// From the last progress on it is told again what it was told already.
	for next := int32(1000*from + 1); ; {
		if !again.Receive() {
			t.Fatalf("from revision %d: %v", from, again.Err())
		}
		if change := again.Msg().GetChange(); change == nil {
			if got := again.Msg().GetProgress().GetRevision(); got == last && next == lastID+1 {
				return
			} else if got == last {
				t.Fatalf("everything is told, and %d is not", next)
			}
		} else if change.GetId() == next {
			next++
		} else {
			t.Fatalf("id %d comes where %d should", change.GetId(), next)
		}
	}
}
