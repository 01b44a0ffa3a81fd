package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

var bridgeFaults = flag.Bool("bridge-faults", false, "run the tests of the bridge at scale and under faults in full, which takes some ten minutes, and not in short")

// inFull returns the second value if the tests of the bridge are run in full, else the first.
func inFull[T any](short, full T) T {
	if *bridgeFaults {
		return full
	}
	return short
}

// faultsCode generates the Python code of e2e/python/faults.proto and returns the folder. Each change is
// a text of that file and what to put in its place.
func faultsCode(t *testing.T, changes ...[2]string) string {
	t.Helper()
	proto, err := os.ReadFile(filepath.Join(root, "e2e", "python", "faults.proto"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(proto)
	for _, change := range changes {
		if !strings.Contains(text, change[0]) {
			t.Fatalf("faults.proto has no %q", change[0])
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "faults.proto"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	generate := exec.Command(filepath.Join(root, "build", "venv", "gen", "bin", "python"), "-m", "grpc_tools.protoc",
		"-I"+folder, "--python_out="+folder, "--grpc_python_out="+folder, "faults.proto")
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", generate, err, out)
	}
	return folder
}

// A faultServer is one process of faults_server.py.
type faultServer struct {
	*process
	t         *testing.T
	address   string
	arguments []string // what it was started with, after the address
}

// startFaults starts a server with the code of a folder, on the newest grpcio.
func startFaults(t *testing.T, code, address string, arguments ...string) *faultServer {
	t.Helper()
	return startFaultsOn(t, need(t, "ROSTER_E2E_NEWEST"), code, address, arguments...)
}

func startFaultsOn(t *testing.T, venv, code, address string, arguments ...string) *faultServer {
	t.Helper()
	script := filepath.Join(root, "e2e", "python", "faults_server.py")
	s := &faultServer{t: t, arguments: arguments}
	s.process = start(t, exec.Command(filepath.Join(venv, "bin", "python"), append([]string{script, code, address}, arguments...)...))
	s.address = s.line(func(line string) string {
		_, address, _ := strings.Cut(line, "serving on ")
		return address
	})
	return s
}

// startSeveral starts servers at the same time. Unless they are all to be on asyncio, half of them are on
// threads.
func startSeveral(t *testing.T, n int, code string, arguments ...string) []*faultServer {
	t.Helper()
	need(t, "ROSTER_E2E_NEWEST")
	servers := make([]*faultServer, n)
	var starting sync.WaitGroup
	for i := range servers {
		starting.Go(func() {
			all := slices.Clone(arguments)
			if i%2 == 1 && !slices.Contains(all, "--aio") {
				all = append(all, "--aio")
			}
			servers[i] = startFaults(t, code, "127.0.0.1:0", all...)
		})
	}
	starting.Wait()
	if slices.Contains(servers, nil) {
		t.FailNow()
	}
	return servers
}

// pid is the number by which the server's replies name it.
func (s *faultServer) pid() uint64 { return uint64(s.command.Process.Pid) }

// again starts the server anew at its address, after it has ended.
func (s *faultServer) again(code string) {
	s.t.Helper()
	next := startFaults(s.t, code, s.address, s.arguments...)
	s.process = next.process
}

// restart stops the server as a Python server should be stopped, and starts it again.
func (s *faultServer) restart(code string) {
	s.t.Helper()
	if exit := s.stop(syscall.SIGTERM); exit != 0 {
		s.t.Errorf("a server that was stopped gracefully ended with code %d", exit)
	}
	s.again(code)
}

func (s *faultServer) signal(signal syscall.Signal) {
	s.t.Helper()
	if err := s.command.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

// bridgeTo starts roster bridge for the servers as one upstream, and returns it and its address.
func bridgeTo(t *testing.T, servers []*faultServer, arguments ...string) (p *process, address string) {
	t.Helper()
	var urls []string
	for _, s := range servers {
		urls = append(urls, "http://"+s.address)
	}
	return bridgeToURL(t, strings.Join(urls, ","), arguments...)
}

func bridgeToURL(t *testing.T, url string, arguments ...string) (p *process, address string) {
	t.Helper()
	p = start(t, exec.Command(binary, append([]string{"bridge", "--addr", "localhost:0", "--log-format", "json", "--access-log", "off", url}, arguments...)...))
	return p, p.line(servingAt)
}

// dial returns one client connection, whose messages are bytes.
func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{}), grpc.MaxCallRecvMsgSize(8<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

const faultService = "/faults.v1.FaultService/"

// callRequest is a CallRequest in protobuf.
func callRequest(sleep time.Duration, body []byte) []byte {
	wire := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(sleep.Milliseconds()))
	return protowire.AppendBytes(protowire.AppendTag(wire, 3, protowire.BytesType), body)
}

// processOf is field 1 of a CallReply or a Chunk, which is its first one: who answered.
func processOf(reply []byte) uint64 {
	if number, kind, n := protowire.ConsumeTag(reply); n > 0 && number == 1 && kind == protowire.VarintType {
		pid, _ := protowire.ConsumeVarint(reply[n:])
		return pid
	}
	return 0
}

// A faultLoad makes calls over one client connection, and counts what became of them.
type faultLoad struct {
	conn    *grpc.ClientConn
	timeout time.Duration // of each call

	began   time.Time
	running atomic.Int64
	most    atomic.Int64 // the most that were running at a time
	left    atomic.Int64 // calls that were not made at a steady rate, because too many were running

	mu       sync.Mutex
	took     []time.Duration // by the calls that were answered
	failed   map[codes.Code]int
	examples map[codes.Code]string
	lastLost time.Time // when the last call that failed had begun
	by       map[uint64]int
}

func newLoad(conn *grpc.ClientConn) *faultLoad {
	l := &faultLoad{conn: conn, timeout: 30 * time.Second}
	l.reset()
	return l
}

// reset forgets what was counted. Calls that are running still count when they end.
func (l *faultLoad) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began, l.took, l.lastLost = time.Now(), nil, time.Time{}
	l.failed, l.examples, l.by = make(map[codes.Code]int), make(map[codes.Code]string), make(map[uint64]int)
	l.most.Store(l.running.Load())
	l.left.Store(0)
}

// call makes one call.
func (l *faultLoad) call(method string, request []byte) {
	running := l.running.Add(1)
	defer l.running.Add(-1)
	l.most.Store(max(l.most.Load(), running))
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	var reply []byte
	began := time.Now()
	err := l.conn.Invoke(ctx, method, &request, &reply)
	l.count(began, processOf(reply), err)
}

// count counts a call that has ended.
func (l *faultLoad) count(began time.Time, pid uint64, err error) {
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		code := status.Code(err)
		l.failed[code]++
		if l.examples[code] == "" {
			l.examples[code] = err.Error()
		}
		if began.After(l.lastLost) {
			l.lastLost = began
		}
		return
	}
	l.took = append(l.took, took)
	l.by[pid]++
}

// callers has n callers make calls until ctx is done, each one after the other.
func (l *faultLoad) callers(ctx context.Context, n int, request func() []byte) {
	var callers sync.WaitGroup
	for range n {
		callers.Go(func() {
			for ctx.Err() == nil {
				l.call(faultService+"Call", request())
			}
		})
	}
	callers.Wait()
}

// at makes so many calls a second until ctx is done, whether or not the earlier ones have been answered.
func (l *faultLoad) at(ctx context.Context, perSecond int, request func() []byte) {
	const mostRunning = 4_000
	var calls sync.WaitGroup
	defer calls.Wait() // they are counted, too
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	began, made := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for due := int(time.Since(began).Seconds() * float64(perSecond)); made < due; made++ {
			if l.running.Load() >= mostRunning {
				l.left.Add(1)
				continue
			}
			calls.Go(func() { l.call(faultService+"Call", request()) })
		}
	}
}

func (l *faultLoad) answered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.took)
}

func (l *faultLoad) answeredBy(pid uint64) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.by[pid]
}

// lost is how many calls failed, of all codes or of those given.
func (l *faultLoad) lost(of ...codes.Code) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for code, count := range l.failed {
		if len(of) == 0 || slices.Contains(of, code) {
			n += count
		}
	}
	return n
}

// percentile is the time within which so much of the calls, from 0 to 1, were answered.
func (l *faultLoad) percentile(part float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.took) == 0 {
		return 0
	}
	slices.Sort(l.took)
	return l.took[min(len(l.took)-1, int(part*float64(len(l.took))))]
}

// String says what became of the calls.
func (l *faultLoad) String() string {
	p50, p99 := l.percentile(0.5), l.percentile(0.99)
	l.mu.Lock()
	defer l.mu.Unlock()
	elapsed := time.Since(l.began).Seconds()
	ended := len(l.took)
	for _, n := range l.failed {
		ended += n
	}
	text := fmt.Sprintf("%d calls in %.1f s (%.0f a second): %d ok, p50 %v, p99 %v", ended, elapsed, float64(ended)/elapsed,
		len(l.took), p50.Round(10*time.Microsecond), p99.Round(10*time.Microsecond))
	for _, code := range slices.Sorted(maps.Keys(l.failed)) {
		text += fmt.Sprintf("; %d %v (%.200s)", l.failed[code], code, l.examples[code])
	}
	if left := l.left.Load(); left > 0 {
		text += fmt.Sprintf("; %d more were not made, because too many were running", left)
	}
	var shares []string
	for _, pid := range slices.Sorted(maps.Keys(l.by)) {
		shares = append(shares, fmt.Sprint(l.by[pid]))
	}
	return text + "; by process " + strings.Join(shares, ", ")
}

// up waits until every server has answered a call of the load.
func (l *faultLoad) up(t *testing.T, servers ...*faultServer) {
	t.Helper()
	eventually(t, "every process to answer calls", func() bool {
		return !slices.ContainsFunc(servers, func(s *faultServer) bool { return l.answeredBy(s.pid()) == 0 })
	})
}

// warm calls until every server has answered, and forgets these calls.
func (l *faultLoad) warm(t *testing.T, servers ...*faultServer) {
	t.Helper()
	eventually(t, "every process to answer calls", func() bool {
		l.call(faultService+"Call", callRequest(0, nil))
		return !slices.ContainsFunc(servers, func(s *faultServer) bool { return l.answeredBy(s.pid()) == 0 })
	})
	l.reset()
}

// watchStreams keeps n server streams of some 1.2 s going until ctx is done. Each has to end as it
// should. It returns how many there were.
func (l *faultLoad) watchStreams(ctx context.Context, t *testing.T, n int) int64 {
	var streams atomic.Int64
	const count = 24
	request := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), count)
	request = protowire.AppendVarint(protowire.AppendTag(request, 3, protowire.VarintType), 50)
	one := func() error {
		limited, cancel := context.WithTimeout(context.Background(), l.timeout)
		defer cancel()
		stream, err := l.conn.NewStream(limited, &grpc.StreamDesc{ServerStreams: true}, faultService+"Down")
		if err != nil {
			return err
		}
		if err := errors.Join(stream.SendMsg(&request), stream.CloseSend()); err != nil {
			return err
		}
		for range count {
			if err := stream.RecvMsg(new([]byte)); err != nil {
				return err
			}
		}
		if err := stream.RecvMsg(new([]byte)); err == nil || err.Error() != "EOF" {
			return fmt.Errorf("after the last message: %w", err)
		}
		return nil
	}
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := one(); err != nil {
					t.Error("a stream failed:", err)
				}
				streams.Add(1)
			}
		})
	}
	all.Wait()
	return streams.Load()
}

// While every process is stopped gracefully and started again twice, one after the other, no call and no
// stream fails.
func TestBridgeLosesNothingWhenEveryProcessIsRestarted(t *testing.T) {
	code := faultsCode(t)
	servers := startSeveral(t, 3, code, "--health")
	_, address := bridgeTo(t, servers)
	l := newLoad(dial(t, address))
	l.warm(t, servers...)
	total := inFull(5_000, 100_000)
	ctx, stop := context.WithCancel(t.Context())
	var loading sync.WaitGroup
	var streams int64
	loading.Go(func() { streams = l.watchStreams(ctx, t, 4) })
	request := func() []byte { // some are running when a process is stopped
		if rand.IntN(20) == 0 {
			return callRequest(200*time.Millisecond, nil)
		}
		return callRequest(0, nil)
	}
	loading.Go(func() {
		if *bridgeFaults {
			l.callers(ctx, 16, request)
		} else {
			l.at(ctx, 400, request)
		}
	})
	for range 2 {
		for _, s := range servers {
			s.restart(code)
			l.up(t, s)
		}
	}
	eventuallyWithin(t, 10*time.Minute, "all calls", func() bool { return l.answered()+l.lost() >= total })
	stop()
	loading.Wait()
	t.Log(l)
	t.Log(streams, "streams")
	if n := l.lost(); n > 0 {
		t.Errorf("%d calls failed", n)
	}
}

// eventuallyWithin is eventually for what takes longer.
func eventuallyWithin(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// One client connection is spread over eight processes: each has the mean, within 10%.
func TestBridgeSpreadsOneConnectionOverEightProcesses(t *testing.T) {
	// All are of one kind: servers on asyncio are faster, and a faster one is free for more calls.
	servers := startSeveral(t, 8, faultsCode(t), "--aio")
	_, address := bridgeTo(t, servers)
	for _, callers := range []int{1, 16} {
		t.Run(fmt.Sprint(callers, " at a time"), func(t *testing.T) {
			// Calls wait a little, as if for a database. If they needed nothing but the CPU, the processes that
			// the kernel lets run at the moment would be less loaded, and so get more.
			request := callRequest(time.Duration(callers-1)*time.Millisecond, nil)
			l := newLoad(dial(t, address))
			l.warm(t, servers...)
			total := inFull(4_000, 40_000)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var loading sync.WaitGroup
			loading.Go(func() { l.callers(ctx, callers, func() []byte { return request }) })
			eventuallyWithin(t, 5*time.Minute, "all calls", func() bool { return l.answered()+l.lost() >= total })
			stop()
			loading.Wait()
			t.Log(l)
			mean := float64(l.answered()) / float64(len(servers))
			for _, s := range servers {
				if share := float64(l.answeredBy(s.pid())) / mean; share < 0.9 || share > 1.1 {
					t.Errorf("a process has %.2f times the mean", share)
				}
			}
			if n := l.lost(); n > 0 {
				t.Errorf("%d calls failed", n)
			}
		})
	}
}

// A server that ends every connection after a second (max_connection_age) costs no call, however long the
// request is: grpc-go keeps only short ones for another try by itself.
func TestBridgeLosesNoCallToAMaximumConnectionAge(t *testing.T) {
	code := faultsCode(t)
	for name, flags := range map[string][]string{"threads": {}, "asyncio": {"--aio"}} {
		for _, processes := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, %d", name, processes), func(t *testing.T) {
				t.Parallel()
				var servers []*faultServer
				for range processes {
					servers = append(servers, startFaults(t, code, "127.0.0.1:0", append([]string{"--max-age", "1000"}, flags...)...))
				}
				_, address := bridgeTo(t, servers)
				l := newLoad(dial(t, address))
				l.warm(t, servers...)
				ctx, stop := context.WithTimeout(t.Context(), inFull(3*time.Second, 20*time.Second))
				defer stop()
				var loading sync.WaitGroup
				loading.Go(func() { l.at(ctx, inFull(150, 500), func() []byte { return callRequest(0, nil) }) })
				long := callRequest(5*time.Millisecond, make([]byte, 400_000))
				loading.Go(func() { l.at(ctx, 30, func() []byte { return long }) })
				loading.Wait()
				t.Log(l)
				if n := l.lost(); n > 0 {
					t.Errorf("%d calls failed", n)
				}
			})
		}
	}
}
