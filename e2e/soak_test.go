package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"example.com/roster/gen/go/apipb"
	"example.com/roster/server/h2/h2test"
)

var soak = flag.Duration("soak", 0, "how long TestSoak loads a binary built with the race detector; by default it loads the usual one for 2s")

// soakCallers are the kinds of load, and how many of each there are. Work goes on until ctx is done
// or something is wrong, and calls done for each piece that is finished.
var soakCallers = []struct {
	name  string
	count int
	work  func(ctx context.Context, address string, done func()) error
}{
	{"unary calls", 4, onChannel(unaryCalls)},
	{"JSON calls over HTTP/1.1", 2, jsonCalls},
	{"streams read to the end", 2, onChannel(wholeStreams)},
	{"calls and streams cancelled", 3, onChannel(cancelledCalls)},
	{"slow readers", 3, onChannel(slowReads)},
	{"streams reset", 1, resets},
	{"connections made and cut", 2, reconnects},
}

// TestSoak loads a server in many ways at once. Nothing may go wrong, and afterwards the server has
// no more goroutines, heap or open files than before.
func TestSoak(t *testing.T) {
	duration := 2 * time.Second
	if *soak > 0 {
		duration = *soak
		usual := binary
		t.Cleanup(func() { binary = usual })
		binary = filepath.Join(t.TempDir(), "roster-race")
		build := exec.Command("go", "build", "-race", "-o", binary, "./cmd/roster")
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s\n%v", out, err)
		}
	}
	p, address, admin := serveAdmin(t, "--access-log", "off")
	// The state before is that after a short load, so that what is made once is there.
	soakLoad(t, address, max(min(duration/20, 20*time.Second), time.Second))
	before := soakState(t, admin)
	t.Logf("before: %v", before)
	var watching sync.WaitGroup
	loaded := make(chan bool)
	watching.Go(func() {
		for tenth := 1; ; tenth++ {
			select {
			case <-loaded:
				return
			case <-time.After(duration / 10):
				t.Logf("after %d%%: %.0f MB resident", tenth*10, soakMetric(t, admin, "process_resident_memory_bytes")/1e6)
			}
		}
	})
	soakLoad(t, address, duration)
	close(loaded)
	watching.Wait()
	// Goroutines and buffers that are kept for the next call go one after the other.
	var leaks []string
	for ended := time.Now(); time.Since(ended) < 3*time.Minute; time.Sleep(time.Second) {
		after := soakState(t, admin)
		leaks = after.leaks(before)
		if len(leaks) == 0 {
			t.Logf("after:  %v", after)
			break
		}
	}
	for _, leak := range leaks {
		t.Error(leak)
	}
	if races := strings.Count(p.log(), "WARNING: DATA RACE"); races > 0 {
		t.Errorf("%d data races", races)
	}
}

// serverState is what a server has at rest.
type serverState struct{ goroutines, heap, files float64 }

func (s serverState) String() string {
	return fmt.Sprintf("%.0f goroutines, %.1f MB of heap, %.0f open files", s.goroutines, s.heap/1e6, s.files)
}

func (s serverState) leaks(before serverState) (leaks []string) {
	// A few goroutines more are timers and idle workers.
	if s.goroutines > before.goroutines+10 {
		leaks = append(leaks, fmt.Sprintf("%.0f goroutines where there were %.0f", s.goroutines, before.goroutines))
	}
	if s.heap > before.heap*1.5+4<<20 {
		leaks = append(leaks, fmt.Sprintf("%.0f bytes of heap where there were %.0f", s.heap, before.heap))
	}
	if s.files > before.files+2 {
		leaks = append(leaks, fmt.Sprintf("%.0f open files where there were %.0f", s.files, before.files))
	}
	return leaks
}

func soakState(t *testing.T, admin string) serverState {
	t.Helper()
	for range 2 { // a finalizer of the first collection may free more
		if status, text := get(t, admin, "/debug/pprof/heap?gc=1"); status != http.StatusOK {
			t.Fatalf("collect garbage: %d %s", status, text)
		}
	}
	return serverState{
		goroutines: soakMetric(t, admin, "go_goroutines"),
		heap:       soakMetric(t, admin, "go_memstats_heap_alloc_bytes"),
		files:      soakMetric(t, admin, "process_open_fds"),
	}
}

func soakMetric(t *testing.T, admin, name string) float64 {
	t.Helper()
	value, err := strconv.ParseFloat(metrics(t, admin)[name], 64)
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return value
}

func soakLoad(t *testing.T, address string, d time.Duration) {
	t.Helper()
	// It is not a deadline: grpc-go would end its calls by it a moment before ctx is done, and that
	// would look like a fault.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	defer time.AfterFunc(d, cancel).Stop()
	done := make([]atomic.Int64, len(soakCallers))
	var all sync.WaitGroup
	for i, c := range soakCallers {
		for range c.count {
			all.Go(func() {
				for ctx.Err() == nil {
					if err := c.work(ctx, address, func() { done[i].Add(1) }); err != nil && ctx.Err() == nil {
						t.Errorf("%s: %v", c.name, err)
						time.Sleep(time.Second)
					}
				}
			})
		}
	}
	all.Wait()
	for i, c := range soakCallers {
		t.Logf("%9d %s", done[i].Load(), c.name)
		// A slow reader takes longer than a short load, on a busy machine more than 20 s.
		if done[i].Load() == 0 && d > time.Minute {
			t.Errorf("no %s", c.name)
		}
	}
}

// onChannel is work on a grpc-go channel of its own.
func onChannel(work func(context.Context, *grpc.ClientConn, func()) error) func(context.Context, string, func()) error {
	return func(ctx context.Context, address string, done func()) error {
		channel, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer channel.Close()
		return work(ctx, channel, done)
	}
}

func callUser(ctx context.Context, channel *grpc.ClientConn, n int) error {
	request, reply := &apipb.UserReq{UserIDs: make([]int32, n)}, new(apipb.UserReply)
	for i := range request.UserIDs {
		request.UserIDs[i] = int32(i%300) + 1
	}
	if err := channel.Invoke(ctx, "/MyService/User", request, reply); err != nil {
		return err
	}
	if len(reply.GetData()) != n {
		return fmt.Errorf("%d users for %d ids", len(reply.GetData()), n)
	}
	return nil
}

func unaryCalls(ctx context.Context, channel *grpc.ClientConn, done func()) error {
	for ctx.Err() == nil {
		if err := callUser(ctx, channel, rand.IntN(1000)+1); err != nil {
			return err
		}
		done()
		time.Sleep(time.Millisecond)
	}
	return nil
}

func jsonCalls(ctx context.Context, address string, done func()) error {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/MyService/User", strings.NewReader(`{"userIDs":[1,2]}`))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s %w", response.Status, body, err)
		}
		done()
		time.Sleep(time.Millisecond)
	}
	return nil
}

// askMany opens a reflection stream and asks for a file again and again. Some replies are large.
func askMany(ctx context.Context, channel *grpc.ClientConn, file string, times int) (reflectionpb.ServerReflection_ServerReflectionInfoClient, error) {
	stream, err := reflectionpb.NewServerReflectionClient(channel).ServerReflectionInfo(ctx)
	for range times {
		if err == nil {
			err = stream.Send(&reflectionpb.ServerReflectionRequest{
				MessageRequest: &reflectionpb.ServerReflectionRequest_FileByFilename{FileByFilename: file},
			})
		}
	}
	return stream, err
}

func wholeStreams(ctx context.Context, channel *grpc.ClientConn, done func()) error {
	for ctx.Err() == nil {
		const messages = 20
		stream, err := askMany(ctx, channel, "api.proto", messages)
		if err != nil {
			return err
		}
		if err := stream.CloseSend(); err != nil {
			return err
		}
		n := 0
		for ; err == nil; n++ {
			_, err = stream.Recv()
		}
		if n != messages+1 || !errors.Is(err, io.EOF) {
			return fmt.Errorf("%d replies to %d questions: %w", n-1, messages, err)
		}
		done()
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// cancelledCalls ends calls by a deadline, and leaves streams in the middle.
func cancelledCalls(ctx context.Context, channel *grpc.ClientConn, done func()) error {
	for ctx.Err() == nil {
		short, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(2000))*time.Microsecond)
		err := callUser(short, channel, 1000)
		cancel()
		if code := status.Code(err); code != codes.OK && code != codes.DeadlineExceeded {
			return err
		}
		one, cancel := context.WithCancel(ctx)
		watch, err := healthpb.NewHealthClient(channel).Watch(one, &healthpb.HealthCheckRequest{})
		if err == nil {
			_, err = watch.Recv()
		}
		if err == nil {
			_, err = askMany(one, channel, "api.proto", rand.IntN(20))
		}
		cancel()
		if err != nil {
			return err
		}
		done()
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// slowReads takes a few messages a second, so that flow control holds the server back, and leaves
// in the middle.
func slowReads(ctx context.Context, channel *grpc.ClientConn, done func()) error {
	one, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := askMany(one, channel, "buf/validate/validate.proto", 200)
	for n := 0; n < 100 && err == nil && ctx.Err() == nil; n++ {
		_, err = stream.Recv()
		time.Sleep(50 * time.Millisecond)
	}
	if err == nil {
		done()
	}
	return err
}

// onFrames is a connection that is spoken to frame by frame.
func onFrames(ctx context.Context, address string) (*h2test.Client, net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	c := h2test.New(conn)
	return c, conn, c.Hello()
}

// resets opens streams and resets them, slowly enough to be no attack.
func resets(ctx context.Context, address string, done func()) error {
	one, cancel := context.WithCancel(ctx)
	defer cancel()
	c, conn, err := onFrames(one, address)
	if err != nil {
		return err
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }() // until it is closed
	// A new connection now and then, before its settings have gone unanswered for long.
	for range 50 {
		id, err := c.Open(rand.IntN(2) == 0, h2test.Call("/MyService/User")...)
		if err := errors.Join(err, c.WriteRSTStream(id, http2.ErrCodeCancel)); err != nil {
			return err
		}
		done()
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// reconnects makes a connection and a call, and cuts the connection while another call is under
// way.
func reconnects(ctx context.Context, address string, done func()) error {
	one, cancel := context.WithCancel(ctx)
	defer cancel()
	c, conn, err := onFrames(one, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	id, err := c.Open(false, h2test.Call("/MyService/User")...)
	// One message without ids: an answer with no users in it.
	if err := errors.Join(err, c.WriteData(id, true, make([]byte, 5))); err != nil {
		return err
	}
	if err := c.Wait(func(f http2.Frame) bool { return f.Header().StreamID == id && h2test.Ends(f) }); err != nil {
		return err
	}
	if _, err := c.Open(false, h2test.Call("/MyService/User")...); err != nil {
		return err
	}
	done()
	time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
	return nil
}
