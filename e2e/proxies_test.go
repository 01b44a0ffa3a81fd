package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"example.com/roster/gen/go/apipb"
	"example.com/roster/gen/go/apipb/apipbconnect"
	"example.com/roster/gen/go/grpc/health/v1/healthv1connect"
)

// A proxyProgram is a proxy for which docs/proxies.md has a configuration.
type proxyProgram struct {
	name string // of the block in docs/proxies.md
	// program is where Debian has it.
	program string
	// whole makes a configuration of the block, in a folder of the test's own.
	whole func(block, folder string) string
	// arguments start it in the foreground.
	arguments func(config, folder string) []string
	// idle is what the configuration calls an hour, for which a stream may be idle.
	idle string
	// keeps are the ways in which Roster does not hear of it, at least not always, when a client leaves a
	// stream.
	keeps []way
	// mayFail: a call in some hundreds fails when Roster is restarted.
	mayFail bool
}

var proxyPrograms = []proxyProgram{
	{name: "nginx", program: "/usr/sbin/nginx", idle: "1h",
		whole: func(block, folder string) string {
			return fmt.Sprintf(`pid %[1]s/pid; error_log %[1]s/error.log; worker_processes 2; events {}
http {
    access_log off;
    client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
%[2]s
}`, folder, block)
		},
		arguments: func(config, folder string) []string { return []string{"-c", config, "-p", folder, "-g", "daemon off;"} }},
	{name: "haproxy", program: "/usr/sbin/haproxy", idle: "1h", keeps: []way{{"grpc-web", false}, {"connect", false}},
		whole:     func(block, _ string) string { return block },
		arguments: func(config, _ string) []string { return []string{"-db", "-f", config} }},
	{name: "caddy", program: "/usr/bin/caddy", mayFail: true,
		whole: func(block, folder string) string {
			return fmt.Sprintf("{\n admin off\n auto_https disable_redirects\n storage file_system %s\n}\n%s", folder, block)
		},
		arguments: func(config, _ string) []string { return []string{"run", "--adapter", "caddyfile", "--config", config} }},
	{name: "apache", program: "/usr/sbin/apache2", idle: "3600", keeps: ways, mayFail: true,
		whole: func(block, folder string) string {
			var load strings.Builder
			for _, module := range []string{"mpm_event", "authz_core", "ssl", "http2", "headers", "proxy", "proxy_http2"} {
				fmt.Fprintf(&load, "LoadModule %s_module /usr/lib/apache2/modules/mod_%[1]s.so\n", module)
			}
			port := regexp.MustCompile(`\*:(\d+)>`).FindStringSubmatch(block)[1]
			return fmt.Sprintf("%sServerRoot %s\nPidFile pid\nErrorLog error.log\nMutex file:%[2]s\nDefaultRuntimeDir %[2]s\nServerName localhost\nListen %s\n%s",
				load.String(), folder, port, block)
		},
		arguments: func(config, _ string) []string { return []string{"-DFOREGROUND", "-f", config} }},
}

// blockOf returns a block of docs/proxies.md: the first or a later one in a language.
func blockOf(t *testing.T, language string, number int) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, "docs", "proxies.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```"+language+"\n(.*?)```\n").FindAllSubmatch(page, -1)
	if len(found) <= number {
		t.Fatalf("docs/proxies.md has %d blocks of %s", len(found), language)
	}
	return string(found[number][1])
}

// start starts the proxy in front of a Roster, with its configuration of docs/proxies.md but for names,
// ports and files, and returns its address.
func (p proxyProgram) start(t *testing.T, c credentials, block, roster string) (address string) {
	t.Helper()
	if _, err := os.Stat(p.program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not there: make proxies installs it", p.program)
		}
		t.Skipf("%s is not there: make proxies installs it", p.program)
	}
	folder, err := os.MkdirTemp("", "roster-proxy-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o777); err != nil { // its workers may be of another user
		t.Fatal(err)
	}
	address = quietAddress(t)
	_, port, _ := net.SplitHostPort(address)

	cert, key := c.file("cert.pem"), c.file("key.pem")
	var both []byte
	for _, file := range []string{cert, key} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, text...)
	}
	if err := os.WriteFile(filepath.Join(folder, "haproxy.pem"), both, 0o644); err != nil {
		t.Fatal(err)
	}
	block = strings.NewReplacer(
		"/etc/ssl/roster/fullchain.pem", cert, "/etc/ssl/roster/privkey.pem", key, "/etc/ssl/roster/haproxy.pem", filepath.Join(folder, "haproxy.pem"),
		"127.0.0.1:50051", roster, "listen 443", "listen "+port, "bind :443", "bind :"+port, "*:443", "*:"+port,
		"roster.example.com {", "localhost:"+port+" {", "roster.example.com", "localhost",
	).Replace(block)
	config := filepath.Join(folder, "config")
	if err := os.WriteFile(config, []byte(p.whole(block, folder)), 0o644); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(p.program, p.arguments(config, folder)...)
	command.Env = append(os.Environ(), "HOME="+folder, "XDG_DATA_HOME="+folder, "XDG_CONFIG_HOME="+folder)
	process := start(t, command)
	t.Cleanup(func() { // its workers, too, which a kill would leave
		_ = command.Process.Signal(terminate)
		select {
		case <-process.exited:
		case <-time.After(20 * time.Second):
		}
		if log, err := os.ReadFile(filepath.Join(folder, "error.log")); err == nil && t.Failed() {
			t.Logf("%s logged:\n%s", p.name, log)
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := tls.Dial("tcp", address, c.config(t, ""))
		if err == nil {
			conn.Close()
			return "localhost:" + port
		}
		select {
		case <-process.exited:
			t.Fatalf("%s ended: %s", p.name, process.log())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer: %v, %s", p.name, err, process.log())
		}
	}
}

// A way is a protocol over a version of HTTP.
type way struct {
	protocol string
	http2    bool
}

func (w way) String() string { return fmt.Sprintf("%s, HTTP/2 %v", w.protocol, w.http2) }

var ways = []way{{"grpc", true}, {"grpc-web", false}, {"grpc-web", true}, {"connect", false}, {"connect", true}}

// client returns what a service's constructor needs to call an address in this way, from an address of
// the loopback, without attempts of its own.
func (w way) client(t *testing.T, c credentials, from string) (*http.Client, []connect.ClientOption) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: c.config(t, ""),
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			_, port, _ := net.SplitHostPort(address)
			return dialer.DialContext(ctx, "tcp", "127.0.0.1:"+port)
		}}
	transport.Protocols.SetHTTP1(!w.http2)
	transport.Protocols.SetHTTP2(w.http2)
	t.Cleanup(transport.CloseIdleConnections)
	options := map[string][]connect.ClientOption{"grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()}, "connect": nil}[w.protocol]
	return &http.Client{Transport: transport}, options
}

// watch opens a Watch of health and returns a channel with what comes: nil for a message, and the error
// that ends it.
func (w way) watch(t *testing.T, ctx context.Context, c credentials, address string) <-chan error {
	t.Helper()
	httpClient, options := w.client(t, c, "127.0.0.1")
	events := make(chan error, 100)
	go func() {
		stream, err := healthv1connect.NewHealthClient(httpClient, "https://"+address, options...).Watch(ctx, &healthv1.HealthCheckRequest{})
		if err != nil {
			events <- err
			return
		}
		defer stream.Close()
		for stream.Receive() {
			events <- nil
		}
		if err := stream.Err(); err != nil {
			events <- err
		} else {
			events <- io.EOF
		}
	}()
	return events
}

// Every proxy, with its configuration in docs/proxies.md, in front of the real Roster.
func TestProxies(t *testing.T) {
	for _, p := range proxyPrograms {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			testProxy(t, p)
		})
	}
}

func testProxy(t *testing.T, p proxyProgram) {
	c := newCredentials(t)
	store, address, admin := filepath.Join(t.TempDir(), "roster.db"), quietAddress(t), quietAddress(t)
	startRoster := func() *process {
		r := start(t, exec.Command(binary, serveCommand(address, store, "--reuse-port", "--admin-addr", admin, "--trusted-proxies", "127.0.0.1",
			"--cors-origin", "https://localhost", "--access-log", "all", "--log-level", "debug")...))
		r.line(servingAt)
		return r
	}
	roster := startRoster()
	block := blockOf(t, p.name, 0)
	proxy := p.start(t, c, block, address)

	// The streams that stay open, and are quiet, while everything else is tried.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open := make(map[way]<-chan error)
	for _, way := range ways {
		open[way] = way.watch(t, ctx, c, proxy)
		if err := within(t, open[way]); err != nil {
			t.Errorf("%s: a stream begins with %v", way, err)
		}
	}

	// Clients that leave; what Roster hears of it is seen below.
	for _, way := range ways {
		leaving, leave := context.WithCancel(t.Context())
		within(t, way.watch(t, leaving, c, proxy))
		leave()
	}
	for _, way := range ways {
		// The proxy names its client, whatever that says of itself.
		httpClient, options := way.client(t, c, "127.0.0.5")
		service := apipbconnect.NewMyServiceClient(httpClient, "https://"+proxy, options...)
		if peer := peerOf(t, roster, service); peer != "127.0.0.5:0" {
			t.Errorf("%s: the caller is %s for the access log", way, peer)
		}
		// An error comes as Roster wrote it.
		_, err := service.User(t.Context(), &apipb.UserReq{UserIDs: make([]int32, 10_001)})
		if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "--max-batch") {
			t.Errorf("%s: too many ids: %v", way, err)
		}
	}
	testPageBehindProxy(t, c, proxy)
	if newest := os.Getenv("ROSTER_E2E_NEWEST"); newest != "" {
		script := `import grpc, sys
sys.path.insert(0, sys.argv[3])
import api_pb2, api_pb2_grpc
with grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials(open(sys.argv[2], "rb").read())) as channel:
    print(len(api_pb2_grpc.MyServiceStub(channel).User(api_pb2.UserReq(userIDs=[1, 2]), timeout=20).data))`
		got := run(t, exec.Command(filepath.Join(newest, "bin", "python"), "-c", script, proxy, c.file("ca.pem"), filepath.Join(root, "gen", "python")))
		if got.stdout != "2\n" {
			t.Errorf("grpcio: %+v", got)
		}
	}

	watches := func() int {
		n, _ := strconv.Atoi(metrics(t, admin)[`roster_calls_in_flight{procedure="/grpc.health.v1.Health/Watch"}`])
		return n
	}
	eventually(t, "no streams but those whose clients are there, or have left in a way that the proxy does not pass on", func() bool {
		return watches() <= len(ways)+len(p.keeps)
	})
	if n := watches(); n == len(ways) && len(p.keeps) > 0 {
		t.Errorf("%s passes on that clients leave, which docs/proxies.md denies", p.name)
	}

	if p.idle != "" {
		testIdleBehindProxy(t, p, c, block, address)
	}

	for way, events := range open {
		select {
		case err := <-events:
			t.Errorf("%s: the quiet stream got %v", way, err)
		default:
		}
	}
	testRestartBehindProxy(t, p, c, proxy, roster, startRoster)
	for way, events := range open {
		var err error
		for err == nil { // NOT_SERVING comes first
			err = within(t, events)
		}
		if connect.CodeOf(err) != connect.CodeUnavailable {
			t.Errorf("%s: the stream ended at the restart with %v", way, err)
		}
	}
}

// nginx below a path: everything but gRPC, which has no such path.
func TestNginxBelowAPath(t *testing.T) {
	nginx, c := proxyPrograms[0], newCredentials(t)
	_, roster := serve(t, "--trusted-proxies", "127.0.0.1", "--cors-origin", "https://localhost")
	// The server of the page with the location of the page, before the one for everything.
	block := strings.Replace(blockOf(t, "nginx", 0), "    location / {", blockOf(t, "nginx", 1)+"    location / {", 1)
	proxy := nginx.start(t, c, block, roster) + "/roster"
	for _, way := range ways[1:] {
		httpClient, options := way.client(t, c, "127.0.0.1")
		reply, err := apipbconnect.NewMyServiceClient(httpClient, "https://"+proxy, options...).User(t.Context(), &apipb.UserReq{UserIDs: []int32{1, 2}})
		if err != nil || len(reply.Data) != 2 {
			t.Errorf("%s: %v %v", way, reply, err)
		}
		if err := within(t, way.watch(t, t.Context(), c, proxy)); err != nil {
			t.Errorf("%s: a stream begins with %v", way, err)
		}
	}
	testPageBehindProxy(t, c, proxy)
}

// HAProxy as a balancer of TCP connections, with TLS and the PROXY protocol in Roster.
func TestHAProxyWithTheProxyProtocol(t *testing.T) {
	haproxy, c := proxyPrograms[1], newCredentials(t)
	p, roster := serve(t, "--proxy-protocol", "--trusted-proxies", "127.0.0.1", "--tls-cert", c.file("cert.pem"), "--tls-key", c.file("key.pem"),
		"--cors-origin", "https://localhost", "--access-log", "all", "--log-level", "debug")
	for name, version := range map[string]string{"version 2": "send-proxy-v2", "version 1": "send-proxy"} {
		proxy := haproxy.start(t, c, strings.Replace(blockOf(t, "haproxy", 1), "send-proxy-v2", version, 1), roster)
		for _, way := range ways {
			httpClient, options := way.client(t, c, "127.0.0.5")
			service := apipbconnect.NewMyServiceClient(httpClient, "https://"+proxy, options...)
			if peer := peerOf(t, p, service); !strings.HasPrefix(peer, "127.0.0.5:") {
				t.Errorf("%s, %s: the caller is %s for the access log", name, way, peer)
			}
		}
		testPageBehindProxy(t, c, proxy)
	}
	// Not through HAProxy, and not from its address.
	for _, from := range []string{"127.0.0.1", "127.0.0.6"} {
		httpClient, options := ways[0].client(t, c, from)
		if _, err := apipbconnect.NewMyServiceClient(httpClient, "https://"+roster, options...).User(t.Context(), &apipb.UserReq{}); err == nil {
			t.Errorf("a call from %s without the PROXY protocol is answered", from)
		}
	}
	p.line(func(line string) string {
		if strings.Contains(line, "it has no usable header of the PROXY protocol") {
			return line
		}
		return ""
	})
}

// peerOf makes a call that gives itself other addresses, and returns the one that Roster logs for it.
func peerOf(t *testing.T, roster *process, service apipbconnect.MyServiceClient) string {
	t.Helper()
	trace := fmt.Sprintf("%032x", calls.Add(1))
	ctx, info := connect.NewClientContext(t.Context())
	info.RequestHeader().Set("X-Forwarded-For", "192.0.2.1")
	info.RequestHeader().Set("Forwarded", "for=192.0.2.2")
	info.RequestHeader().Set("Traceparent", "00-"+trace+"-0000000000000001-01")
	if reply, err := service.User(ctx, &apipb.UserReq{UserIDs: []int32{1, 2}}); err != nil || len(reply.Data) != 2 {
		t.Errorf("%v %v", reply, err)
	}
	return roster.line(func(line string) string {
		var entry struct{ Trace, Peer string }
		if json.Unmarshal([]byte(line), &entry) != nil || entry.Trace != trace {
			return ""
		}
		return entry.Peer
	})
}

// calls tells the calls of peerOf apart.
var calls atomic.Int64

// within waits for the next event of a stream.
func within(t *testing.T, events <-chan error) error {
	t.Helper()
	select {
	case err := <-events:
		return err
	case <-time.After(20 * time.Second):
		t.Error("nothing came in 20 s")
		return io.ErrNoProgress
	}
}

// testPageBehindProxy loads the page, and calls as it does.
func testPageBehindProxy(t *testing.T, c credentials, proxy string) {
	t.Helper()
	_, port, _ := net.SplitHostPort(proxy)
	for _, http2 := range []bool{false, true} {
		httpClient, _ := way{"connect", http2}.client(t, c, "127.0.0.1")
		for _, target := range []string{"/", "/api.proto", "/roster.v1.DirectoryService/BatchGetUsers?connect=v1&encoding=json&message=%7B%22ids%22%3A%5B1%5D%7D"} {
			response, err := httpClient.Get("https://" + proxy + target)
			if err != nil {
				t.Error(err)
				continue
			}
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if response.StatusCode != 200 {
				t.Errorf("HTTP/2 %v, GET %s: %d %s", http2, target, response.StatusCode, body)
			}
		}
		request, err := http.NewRequest("POST", "https://"+proxy+"/MyService/User", strings.NewReader(`{"userIDs":[1]}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header = http.Header{"Content-Type": {"application/json"}, "Origin": {"https://localhost"}}
		response, err := httpClient.Do(request)
		if err != nil {
			t.Error(err)
			continue
		}
		response.Body.Close()
		if response.StatusCode != 200 || response.Header.Get("Access-Control-Allow-Origin") != "https://localhost" {
			t.Errorf("HTTP/2 %v, port %s, a call of the page: %d %v", http2, port, response.StatusCode, response.Header)
		}
	}
}

// testIdleBehindProxy shows which line of the configuration ends streams that are quiet: with two seconds
// there, they end, and every one has lasted longer with what the page has.
func testIdleBehindProxy(t *testing.T, p proxyProgram, c credentials, block, roster string) {
	t.Helper()
	short := strings.ReplaceAll(block, p.idle, map[string]string{"1h": "2s", "3600": "2"}[p.idle])
	if short == block {
		t.Fatalf("the block of %s has no %s", p.name, p.idle)
	}
	impatient := p.start(t, c, short, roster)
	var all sync.WaitGroup
	for _, way := range ways {
		events := way.watch(t, t.Context(), c, impatient)
		all.Go(func() {
			begun := time.Now()
			if err := within(t, events); err != nil {
				t.Errorf("%s: a stream begins with %v", way, err)
			}
			if err := within(t, events); err == nil || time.Since(begun) < 1500*time.Millisecond {
				t.Errorf("%s: a quiet stream gets %v after %v, want its end after 2s", way, err, time.Since(begun))
			}
		})
	}
	all.Wait()
}

// testRestartBehindProxy hands the address over from one Roster to the next, three times, under calls.
func testRestartBehindProxy(t *testing.T, p proxyProgram, c credentials, proxy string, roster *process, startRoster func() *process) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l := &load{t: t, stop: cancel}
	var running sync.WaitGroup
	for _, way := range ways {
		httpClient, options := way.client(t, c, "127.0.0.1")
		service := apipbconnect.NewMyServiceClient(httpClient, "https://"+proxy, options...)
		caller := &caller{name: way.String()}
		l.callers = append(l.callers, caller)
		running.Go(func() {
			caller.run(ctx, 100, func(ctx context.Context) (int, error) {
				reply, err := service.User(ctx, &apipb.UserReq{UserIDs: []int32{1, 2}})
				return len(reply.GetData()), err
			})
		})
	}
	for range 3 {
		l.wait(callsBetween)
		next := startRoster()
		if code := roster.stop(terminate); code != 0 {
			t.Errorf("Roster ended with %d", code)
		}
		roster = next
	}
	l.wait(callsBetween)
	cancel()
	running.Wait()
	for _, caller := range l.callers {
		t.Logf("%-24s %5d answered, %d failed", caller.name, caller.answered.Load(), len(caller.failures))
		for _, why := range caller.failures {
			// What the proxy itself answers is 502, UNAVAILABLE, which clients try again.
			if !p.mayFail || !strings.Contains(why, "unavailable") || len(caller.failures) > 10 {
				t.Error(why)
			}
		}
	}
}

// lastQuietPort makes quietAddress give each caller a port of its own.
var lastQuietPort atomic.Int64

// quietAddress is an address that nobody listens on, of a port below those that the system chooses, so
// that no other test gets it meanwhile.
func quietAddress(t *testing.T) string {
	t.Helper()
	for {
		port := 12_000 + (int64(os.Getpid())+lastQuietPort.Add(1))%8_000
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			listener.Close()
			return listener.Addr().String()
		}
	}
}
