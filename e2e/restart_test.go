package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"example.com/roster/client"
	"example.com/roster/gen/go/apipb"
	"example.com/roster/gen/go/apipb/apipbconnect"
)

const (
	restarts = 10
	// callRate is of all callers together, a second.
	callRate = 2000
	// callsBetween is how many calls each caller has answered before the next
	// restart: all of them see each one.
	callsBetween = 20
	// callTimeout is when a call that hangs has failed.
	callTimeout = 20 * time.Second
)

// A caller calls an address at a steady rate, with a client's own settings.
type caller struct {
	name     string
	answered atomic.Int64
	mu       sync.Mutex
	failures []string
}

func (c *caller) fail(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = append(c.failures, fmt.Sprintf("%s %s: %s", time.Now().Format("15:04:05.000"), c.name, why))
}

// run makes calls from four goroutines until ctx is done; call is one of them.
func (c *caller) run(ctx context.Context, rate float64, call func(context.Context) (users int, err error)) {
	const goroutines = 4
	interval := time.Duration(goroutines / rate * float64(time.Second))
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for due := time.Now(); ctx.Err() == nil; {
				bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
				users, err := call(bounded)
				cancel()
				switch {
				case err != nil:
					c.fail(err.Error())
				case users != 2:
					c.fail(fmt.Sprintf("%d users", users))
				default:
					c.answered.Add(1)
				}
				if due = due.Add(interval); time.Since(due) > 100*time.Millisecond {
					due = time.Now() // do not make up for a pause of the machine
				}
				time.Sleep(time.Until(due))
			}
		})
	}
	all.Wait()
}

// load is callers of every kind on one address.
type load struct {
	t       *testing.T
	callers []*caller
	stop    func()
}

func startLoad(t *testing.T, address string) *load {
	type start func(ctx context.Context, c *caller, rate float64)
	inGo := func(call func(context.Context) (int, error)) start {
		return func(ctx context.Context, c *caller, rate float64) { c.run(ctx, rate, call) }
	}
	inPython := func(environment, kind string) start {
		python := filepath.Join(need(t, environment), "bin", "python")
		return func(ctx context.Context, c *caller, rate float64) {
			command := exec.Command(python, filepath.Join("python", "load.py"), kind, address, strconv.FormatFloat(rate, 'f', -1, 64))
			c.runProgram(t, ctx, command)
		}
	}
	users := func(c *client.Client) func(context.Context) (int, error) {
		return func(ctx context.Context) (int, error) {
			users, err := c.Users(ctx, []int32{1, 2})
			return len(users), err
		}
	}
	plain := func(transport *http.Transport, options ...connect.ClientOption) func(context.Context) (int, error) {
		t.Cleanup(transport.CloseIdleConnections)
		service := apipbconnect.NewMyServiceClient(&http.Client{Transport: transport}, "http://"+address, options...)
		return func(ctx context.Context) (int, error) {
			reply, err := service.User(ctx, &apipb.UserReq{UserIDs: []int32{1, 2}})
			return len(reply.GetData()), err
		}
	}
	h2c := func() *http.Transport {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
		return transport
	}
	newClient := func(protocol client.Protocol) *client.Client {
		c, err := client.New("http://"+address, client.Config{Protocol: protocol})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	channel, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { channel.Close() })

	starts := map[string]start{
		"grpcio, newest":              inPython("ROSTER_E2E_NEWEST", "grpc"),
		"grpcio.aio, newest":          inPython("ROSTER_E2E_NEWEST", "grpc.aio"),
		"grpcio, following health":    inPython("ROSTER_E2E_NEWEST", "health"),
		"grpcio, oldest":              inPython("ROSTER_E2E_OLDEST", "grpc"),
		"grpcio.aio, oldest":          inPython("ROSTER_E2E_OLDEST", "grpc.aio"),
		"client, gRPC":                inGo(users(newClient(client.GRPC))),
		"client, Connect":             inGo(users(newClient(client.Connect))),
		"connect-go, gRPC":            inGo(plain(h2c(), connect.WithGRPC())),
		"connect-go, HTTP/1.1":        inGo(plain(http.DefaultTransport.(*http.Transport).Clone())),
		"connect-go, Connect, HTTP/2": inGo(plain(h2c())),
		"grpc-go": inGo(func(ctx context.Context) (int, error) {
			var reply apipb.UserReply
			err := channel.Invoke(ctx, "/MyService/User", &apipb.UserReq{UserIDs: []int32{1, 2}}, &reply)
			return len(reply.GetData()), err
		}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t}
	var running sync.WaitGroup
	for name, start := range starts {
		c := &caller{name: name}
		l.callers = append(l.callers, c)
		running.Go(func() { start(ctx, c, callRate/float64(len(starts))) })
	}
	l.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(l.stop)
	return l
}

// runProgram runs a caller in another language until ctx is done.
func (c *caller) runProgram(t *testing.T, ctx context.Context, command *exec.Cmd) {
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Error(err)
		return
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Error(err)
		return
	}
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		t.Error(err)
		return
	}
	defer context.AfterFunc(ctx, func() { stdin.Close() })()
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if why, failed := strings.CutPrefix(lines.Text(), "failed: "); failed {
			c.fail(why)
		} else if n, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
			c.answered.Store(n)
		}
	}
	if err := command.Wait(); err != nil {
		c.fail(err.Error())
	}
}

// wait waits until every caller has had so many more calls answered.
func (l *load) wait(calls int64) {
	l.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for _, c := range l.callers {
		for before := c.answered.Load(); c.answered.Load() < before+calls; {
			if time.Now().After(deadline) {
				c.mu.Lock()
				defer c.mu.Unlock()
				l.t.Fatalf("%s has had %d calls answered in a minute, want %d; %q", c.name, c.answered.Load()-before, calls, c.failures)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// report ends the load and tells what became of the calls.
func (l *load) report(took time.Duration) {
	l.t.Helper()
	l.stop()
	var calls int64
	for _, c := range l.callers {
		c.mu.Lock()
		l.t.Logf("%-28s %6d answered, %d failed", c.name, c.answered.Load(), len(c.failures))
		calls += c.answered.Load() + int64(len(c.failures))
		c.mu.Unlock()
	}
	l.t.Logf("%d calls in %v, %.0f a second", calls, took.Round(time.Millisecond), float64(calls)/took.Seconds())
}

// handover runs one server after the other on the same address.
type handover struct {
	t        *testing.T
	address  string
	inherits bool // all have one socket
	command  func() *exec.Cmd
}

func (h *handover) start() *process {
	h.t.Helper()
	p := start(h.t, h.command())
	p.line(servingAt)
	return p
}

func (h *handover) stop(p *process) {
	h.t.Helper()
	if code := p.stop(terminate); code != 0 {
		h.t.Errorf("the server ended with %d, want 0", code)
	}
}

// quietAddresses are ones that nobody else will be given: below the ports that
// the system chooses.
func quietAddresses(t *testing.T) (port, admin string) {
	t.Helper()
	var free []string
	for port := 20_000 + os.Getpid()%10_000; port < 32_000 && len(free) < 2; port++ {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			listener.Close()
			free = append(free, listener.Addr().String())
		}
	}
	if len(free) < 2 {
		t.Fatal("no ports are free")
	}
	return free[0], free[1]
}

func serveCommand(address, store string, arguments ...string) []string {
	return append([]string{"serve", "--addr", address, "--store", store, "--sample", "--log-format", "json"}, arguments...)
}

// byReusePort has each server listen for itself.
func byReusePort(t *testing.T) *handover {
	store := filepath.Join(t.TempDir(), "roster.db")
	address, admin := quietAddresses(t)
	return &handover{t: t, address: address, command: func() *exec.Cmd {
		return exec.Command(binary, serveCommand(address, store, "--reuse-port", "--admin-addr", admin)...)
	}}
}

// byInheritance passes one socket to each server, as systemd does.
func byInheritance(t *testing.T) *handover {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	store := filepath.Join(t.TempDir(), "roster.db")
	return &handover{t: t, address: listener.Addr().String(), inherits: true, command: func() *exec.Cmd {
		return inheriting(serveCommand("localhost:1", store), file)
	}}
}

// inheriting is the binary with sockets passed to it. LISTEN_PID is that of the
// shell, which becomes the binary.
func inheriting(arguments []string, files ...*os.File) *exec.Cmd {
	command := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, binary}, arguments...)...)
	command.Env = append(os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(files)))
	command.ExtraFiles = files
	return command
}

func TestARestartThatNobodyNotices(t *testing.T) {
	for name, by := range map[string]func(*testing.T) *handover{
		"by --reuse-port":        byReusePort,
		"by an inherited socket": byInheritance,
	} {
		t.Run(name, func(t *testing.T) {
			h := by(t)
			current := h.start()
			l := startLoad(t, h.address)
			l.wait(callsBetween)
			began := time.Now()
			for round := range restarts {
				last := current
				if h.inherits && round%2 == 1 {
					// As systemctl restart does: what connects in between waits.
					h.stop(last)
					current = h.start()
				} else {
					current = h.start()
					h.stop(last)
				}
				l.wait(callsBetween)
			}
			l.report(time.Since(began))
			for _, c := range l.callers {
				for _, why := range c.failures {
					t.Error(why)
				}
			}
			h.stop(current)
		})
	}
}

// What the callers see without a handover, for docs/operations.md.
func TestARestartThatIsNoHandover(t *testing.T) {
	store := filepath.Join(t.TempDir(), "roster.db")
	address, _ := quietAddresses(t)
	h := &handover{t: t, address: address, command: func() *exec.Cmd {
		return exec.Command(binary, serveCommand(address, store)...)
	}}
	current := h.start()
	l := startLoad(t, address)
	l.wait(callsBetween)
	began := time.Now()
	h.stop(current)
	h.start()
	t.Logf("from SIGTERM to the next server: %v", time.Since(began).Round(time.Millisecond))
	l.wait(callsBetween)
	l.report(time.Since(began))
	for _, c := range l.callers {
		for _, why := range c.failures {
			// All of them may be tried again: the server has not seen the call.
			if !strings.Contains(strings.ToLower(why), "unavailable") {
				t.Error(why)
			}
		}
	}
}
