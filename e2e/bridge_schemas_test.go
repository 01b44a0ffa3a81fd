package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const addMethod = "  // Down sends"

// The processes of a server are restarted one after the other with a new version of their schema: no call
// fails, and the new field and the new method can be called without a restart of the port.
func TestBridgeLearnsANewSchemaWithoutAFailedCall(t *testing.T) {
	t.Parallel()
	code := faultsCode(t)
	next := faultsCode(t, [2]string{"int32 process = 1;", "int32 process = 1;\n  string added = 99;"},
		[2]string{addMethod, "  rpc More(CallRequest) returns (CallReply);\n" + addMethod})
	servers := startSeveral(t, 2, code, "--health")
	p, address := bridgeTo(t, servers)
	l := newLoad(dial(t, address))
	l.warm(t, servers...)
	post := func(method string) string {
		t.Helper()
		status, text := postJSON(t, "http://"+address+faultService+method, `{}`)
		return fmt.Sprint(status, " ", text)
	}
	if got := post("Call"); strings.Contains(got, "added") {
		t.Fatal(got)
	}
	if got := post("More"); !strings.HasPrefix(got, "404") {
		t.Fatal(got)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var loading sync.WaitGroup
	loading.Go(func() { l.at(ctx, 100, func() []byte { return callRequest(0, nil) }) })
	// Callers in JSON need the schema for each call.
	loading.Go(func() {
		for ctx.Err() == nil {
			if got := post("Call"); !strings.HasPrefix(got, "200") {
				t.Error("in JSON:", got)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	for _, s := range servers {
		s.restart(next)
		l.up(t, s)
	}
	eventually(t, "the new field and the new method", func() bool {
		// The server has no code for the new method, which is its own answer.
		return strings.Contains(post("Call"), `"added":""`) && strings.HasPrefix(post("More"), "501")
	})
	stop()
	loading.Wait()
	t.Log(l)
	if n := l.lost(); n > 0 {
		t.Errorf("%d calls failed", n)
	}
	for _, want := range []string{"mounted again with another schema", "added"} {
		if !strings.Contains(p.log(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}

// Processes of one server whose schemas differ are refused for the service that differs, in words and for
// as long as they do. Their other services are answered.
func TestBridgeRefusesProcessesThatDiffer(t *testing.T) {
	t.Parallel()
	code := faultsCode(t)
	other := faultsCode(t, [2]string{"string note = 2; ", "int64 note = 2; "})
	servers := []*faultServer{startFaults(t, code, "127.0.0.1:0"), startFaults(t, other, "127.0.0.1:0")}
	admin := freeAddress(t)
	p, address := bridgeTo(t, servers, "--admin-addr", admin)
	var text string
	eventuallyWithin(t, time.Minute, "the service to be refused", func() bool {
		var status int
		status, text = postJSON(t, "http://"+address+faultService+"Call", `{}`)
		return status == http.StatusServiceUnavailable && strings.Contains(text, "refused")
	})
	const why = "faults.v1.FaultService is refused: the processes of its server have different schemas: "
	if !strings.Contains(text, `"unavailable"`) || !strings.Contains(text, why) || !strings.Contains(text, "note") {
		t.Error("the error is", text)
	}
	if !strings.Contains(p.log(), "have different schemas") || !strings.Contains(p.log(), "note") {
		t.Error("the log does not say what differs")
	}
	// Callers are told no addresses, and the operator is.
	for _, server := range servers {
		if strings.Contains(text, server.address) || !strings.Contains(p.log(), server.address) {
			t.Errorf("%s is in the error, or not in the log", server.address)
		}
	}
	upstream := `upstream="http://` + servers[0].address + ",http://" + servers[1].address + `"}`
	for state, want := range map[string]string{"differs": "1", "mounted": "1", "owned": "0"} {
		if got := metrics(t, admin)[`roster_bridge_services{state="`+state+`",`+upstream]; got != want {
			t.Errorf("%s services are %s, want %s", got, state, want)
		}
	}
	if status, text := postJSON(t, "http://"+address+"/faults.v1.SameService/Same", `{"number":"5"}`); status != http.StatusOK || !strings.Contains(text, `"number":"5"`) {
		t.Error("the service that is the same:", status, text)
	}
	servers[1].stop(syscall.SIGTERM)
	servers[1].again(code)
	l := newLoad(dial(t, address))
	eventually(t, "the service to be answered again", func() bool {
		l.call(faultService+"Call", callRequest(0, nil))
		return l.answered() > 0
	})
}

// A server may be down when the port starts. Its services are UNAVAILABLE until it has come, and again
// when it has left, by their name and without its address.
func TestBridgeToAServerThatComesLater(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	upstream := listener.Addr().String()
	listener.Close()
	_, address := bridgeToURL(t, "http://"+upstream)
	call := func() (int, string) { return postJSON(t, "http://"+address+faultService+"Call", `{}`) }
	if status, text := call(); status != http.StatusServiceUnavailable || !strings.Contains(text, "has not told its services yet") || strings.Contains(text, upstream) {
		t.Error("before:", status, text)
	}
	server := startFaults(t, faultsCode(t), upstream, "--health")
	eventually(t, "the server to be called", func() bool { status, _ := call(); return status == http.StatusOK })
	unavailable := func(when string) {
		t.Helper()
		var text string
		eventually(t, "the service to be unavailable "+when, func() bool {
			var status int
			status, text = call()
			return status == http.StatusServiceUnavailable
		})
		if !strings.Contains(text, "faults.v1.FaultService is unavailable") || strings.Contains(text, upstream) {
			t.Error(when+":", text)
		}
	}
	// While it says that it stops, it still runs.
	server.signal(syscall.SIGTERM)
	unavailable("while the server stops")
	<-server.exited
	unavailable("when the server has ended")
	server.again(faultsCode(t))
	eventually(t, "the server to be called again", func() bool { status, _ := call(); return status == http.StatusOK })
}

// The addresses of a host are followed as they change, without a failed call.
func TestBridgeFollowsTheAddressesOfAHost(t *testing.T) {
	t.Parallel()
	hosts := filepath.Join(t.TempDir(), "hosts")
	have := func(addresses ...string) {
		t.Helper()
		text := "127.0.0.1 localhost\n"
		for _, address := range addresses {
			text += address + " processes.test\n"
		}
		// In place, since it is this file that is mounted.
		if err := os.WriteFile(hosts, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have("127.0.0.1")
	isolated := func(command string) *exec.Cmd {
		unshare := []string{"-m"}
		if os.Getuid() != 0 {
			unshare = []string{"-r", "-m"}
		}
		return exec.Command("unshare", append(unshare, "sh", "-c", "mount --bind "+hosts+" /etc/hosts && "+command)...)
	}
	if err := isolated("true").Run(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("this test cannot have an /etc/hosts of its own: ", err)
	}
	code := faultsCode(t)
	first := startFaults(t, code, "127.0.0.1:0", "--health")
	_, port, err := net.SplitHostPort(first.address)
	if err != nil {
		t.Fatal(err)
	}
	second := startFaults(t, code, "127.0.0.2:"+port, "--health")
	p := start(t, isolated("exec "+binary+" bridge --addr localhost:0 --log-format json --access-log off http://processes.test:"+port))
	l := newLoad(dial(t, p.line(servingAt)))
	l.warm(t, first)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var loading sync.WaitGroup
	loading.Go(func() { l.at(ctx, 50, func() []byte { return callRequest(20*time.Millisecond, nil) }) })
	have("127.0.0.1", "127.0.0.2")
	l.up(t, second)
	have("127.0.0.2")
	eventually(t, "the first process to get no more calls", func() bool {
		before, others := l.answeredBy(first.pid()), l.answeredBy(second.pid())
		eventually(t, "more calls", func() bool { return l.answeredBy(second.pid()) > others+20 })
		return l.answeredBy(first.pid()) == before
	})
	stop()
	loading.Wait()
	t.Log(l)
	if n := l.lost(); n > 0 {
		t.Errorf("%d calls failed", n)
	}
}
