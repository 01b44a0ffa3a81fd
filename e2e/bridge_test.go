package e2e

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

// jobsCode generates the Python code of examples/bridge/jobs.proto, as its README says, and returns the
// folder.
func jobsCode(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	generate := exec.Command(filepath.Join(root, "build", "venv", "gen", "bin", "python"), "-m", "grpc_tools.protoc",
		"-I"+filepath.Join(root, "examples", "bridge"), "--python_out="+folder, "--grpc_python_out="+folder, "jobs.proto")
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", generate, err, out)
	}
	return folder
}

// startJobs starts the server of examples/bridge.
func startJobs(t *testing.T, venv, code, address string) (p *process, at string) {
	t.Helper()
	command := exec.Command(filepath.Join(venv, "bin", "python"), filepath.Join(root, "examples", "bridge", "server.py"), "--address", address)
	command.Env = append(os.Environ(), "PYTHONPATH="+code)
	p = start(t, command)
	return p, p.line(findAddress)
}

// serveBridge starts roster bridge and waits until it answers for the upstreams.
func serveBridge(t *testing.T, arguments ...string) (p *process, url string) {
	t.Helper()
	p = start(t, exec.Command(binary, append([]string{"bridge", "--addr", "localhost:0", "--log-format", "json"}, arguments...)...))
	url = "http://" + p.line(servingAt)
	eventually(t, "the job service to be mounted", func() bool {
		status, _ := postJSON(t, url+"/jobs.v1.JobService/Get", `{"id":1}`)
		return status != http.StatusServiceUnavailable && strings.Contains(p.log(), "bridge: mounted")
	})
	return p, url
}

func postJSON(t *testing.T, url, body string) (status int, text string) {
	t.Helper()
	reply, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	content, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode, string(content)
}

// A plain Python server of another proto than ours, on the newest and the oldest grpcio, sync and
// asyncio, is called by curl's JSON, by GET, and by grpcio's own stubs.
func TestBridgeToPython(t *testing.T) {
	code := jobsCode(t)
	newest, oldest := need(t, "ROSTER_E2E_NEWEST"), need(t, "ROSTER_E2E_OLDEST")
	asyncio := func(venv string) func(t *testing.T) string {
		return func(t *testing.T) string {
			p := start(t, exec.Command(filepath.Join(venv, "bin", "python"), filepath.Join(root, "e2e", "python", "jobs_asyncio.py"), code, "127.0.0.1:0"))
			return p.line(findAddress)
		}
	}
	threads := func(venv string) func(t *testing.T) string {
		return func(t *testing.T) string {
			_, address := startJobs(t, venv, code, "127.0.0.1:0")
			return address
		}
	}
	for name, upstream := range map[string]func(t *testing.T) string{
		"newest": threads(newest), "oldest": threads(oldest), "newest asyncio": asyncio(newest), "oldest asyncio": asyncio(oldest),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, url := serveBridge(t, "http://"+upstream(t))
			status, job := postJSON(t, url+"/jobs.v1.JobService/Submit", `{"name":"report","steps":2,"payload":{"@type":"type.googleapis.com/jobs.v1.GetRequest","id":"7"}}`)
			if status != http.StatusOK || !strings.Contains(job, `"name":"report","state":"STATE_RUNNING","step":0,"steps":2`) {
				t.Fatal(status, job)
			}
			reply, err := http.Get(url + `/jobs.v1.JobService/Get?encoding=json&message={"id":"1"}`)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(reply.Body)
			reply.Body.Close()
			if !strings.Contains(string(text), `"id":"1"`) {
				t.Error("GET:", reply.Status, string(text))
			}
			if status, text := postJSON(t, url+"/jobs.v1.JobService/Submit", `{"nam":"report"}`); status != http.StatusBadRequest || !strings.Contains(text, `nam`) {
				t.Error(status, text)
			}
			for _, venv := range []string{newest, oldest} {
				called := run(t, exec.Command(filepath.Join(venv, "bin", "python"), filepath.Join(root, "e2e", "python", "jobs_client.py"), code, strings.TrimPrefix(url, "http://")))
				if called.code != 0 {
					t.Errorf("%s: exit %d: %s%s", venv, called.code, called.stdout, called.stderr)
				}
			}
		})
	}
}

// A Python server may own MyService: grpcio clients of Roster find it there, without reflection or a
// schema.
func TestBridgeToAPythonMyService(t *testing.T) {
	_, upstream := pythonServer(t)
	_, address := serve(t, "--bridge", "MyService=http://"+upstream)
	eventually(t, "MyService to be mounted", func() bool {
		status, text := postJSON(t, "http://"+address+"/MyService/User", `{"userIDs":[1]}`)
		return status == http.StatusOK && strings.Contains(text, "Leila")
	})
	if found := roster(t, "get", "1", "--server", "http://"+address); found.code != 0 || !strings.Contains(found.stdout, "Leila Dubois") {
		t.Error(found)
	}
}

// bytesCodec sends and receives messages as they are.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "" }
func (bytesCodec) Marshal(m any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*m.(*[]byte))}, nil
}
func (bytesCodec) Unmarshal(data mem.BufferSlice, m any) error {
	*m.(*[]byte) = data.Materialize()
	return nil
}

// While the processes of a server are stopped gracefully and started again, one after the other, no
// call fails. Of a process that is killed only the calls that it had begun are lost, as UNAVAILABLE.
func TestBridgeLosesNoCallWhenProcessesRestart(t *testing.T) {
	code, venv := jobsCode(t), need(t, "ROSTER_E2E_NEWEST")
	var processes []*process
	var addresses, urls []string
	for range 2 {
		p, address := startJobs(t, venv, code, "127.0.0.1:0")
		processes, addresses, urls = append(processes, p), append(addresses, address), append(urls, "http://"+address)
	}
	_, url := serveBridge(t, strings.Join(urls, ","), "--bridge-role", "jobs.v1.JobService/*=anyone")
	conn, err := grpc.NewClient(strings.TrimPrefix(url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, stop := context.WithCancel(t.Context())
	var calls, failed atomic.Int64
	var young atomic.Int64 // replies of a process that has just been started: their ids are below 50
	var first atomic.Pointer[error]
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for ctx.Err() == nil {
				request, reply := []byte{0x0a, 0x01, 'a'}, []byte(nil) // SubmitRequest{name: "a"}
				limited, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				err := conn.Invoke(limited, "/jobs.v1.JobService/Submit", &request, &reply)
				cancel()
				calls.Add(1)
				if len(reply) > 1 && reply[0] == 0x08 && reply[1] < 50 {
					young.Add(1)
				}
				if err != nil {
					failed.Add(1)
					first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	during := func(what string, work func()) {
		before := calls.Load()
		work()
		eventually(t, "more calls "+what, func() bool { return calls.Load() > before+100 })
	}
	during("before", func() {})
	for range 2 {
		for i := range processes {
			during("during a restart", func() {
				if code := processes[i].stop(syscall.SIGTERM); code != 0 {
					t.Error("exit", code)
				}
				processes[i], _ = startJobs(t, venv, code, addresses[i])
				before := young.Load()
				eventually(t, "the process to get calls again", func() bool { return young.Load() > before })
			})
		}
	}
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d calls failed while the processes were restarted gracefully, the first with: %v", n, calls.Load(), *first.Load())
	}
	failed.Store(0)
	during("after a process was killed", func() { processes[0].stop(syscall.SIGKILL) })
	stop()
	callers.Wait()
	if n := failed.Load(); n > 4 {
		t.Errorf("%d calls failed because of a killed process, but there were at most 4 at a time", n)
	}
	if err := first.Load(); err != nil && !errors.Is(*err, context.Canceled) && !strings.Contains(fmt.Sprint(*err), "Unavailable") {
		t.Error("a lost call is no UNAVAILABLE:", *err)
	}
	t.Logf("%d calls, %d lost with the killed process", calls.Load(), failed.Load())
}

// A call that the caller traces has a span for the port and, below it, one for the upstream.
func TestBridgeTraces(t *testing.T) {
	collected := collect(t)
	_, upstream := startJobs(t, need(t, "ROSTER_E2E_NEWEST"), jobsCode(t), "127.0.0.1:0")
	command := exec.Command(binary, "bridge", "--addr", "localhost:0", "--log-format", "json", "http://"+upstream)
	command.Env = append(os.Environ(), "OTEL_EXPORTER_OTLP_ENDPOINT="+collected.url, "OTEL_BSP_SCHEDULE_DELAY=100")
	url := "http://" + start(t, command).line(servingAt)
	eventually(t, "the spans of a call to be exported", func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/jobs.v1.JobService/Submit", strings.NewReader(`{"name":"a"}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Traceparent", "00-"+callersTrace+"-"+callersSpan+"-01")
		reply, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		reply.Body.Close()
		spans := collected.named("jobs.v1.JobService/Submit")
		for _, of := range spans {
			for _, below := range spans {
				if hex.EncodeToString(of.GetTraceId()) == callersTrace && hex.EncodeToString(of.GetParentSpanId()) == callersSpan &&
					bytes.Equal(below.GetParentSpanId(), of.GetSpanId()) {
					return true
				}
			}
		}
		return false
	})
}
