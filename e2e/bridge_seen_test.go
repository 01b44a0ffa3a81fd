package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A page of another origin calls a Python server through the port: by fetch, and by Connect-Web with a
// server stream. The port's own page is as it was.
func TestBridgeInABrowser(t *testing.T) {
	web := need(t, "ROSTER_E2E_WEB")
	code := jobsCode(t)
	_, upstream := startJobs(t, need(t, "ROSTER_E2E_NEWEST"), code, "127.0.0.1:0")
	p, address := serve(t, "--bridge", "http://"+upstream, "--cors-origin", "http://localhost:*")
	eventually(t, "the job service to be mounted", func() bool { return strings.Contains(p.log(), "bridge: mounted") })
	schema := filepath.Join(t.TempDir(), "jobs.binpb")
	compile := exec.Command(filepath.Join(root, "build", "venv", "gen", "bin", "python"), "-m", "grpc_tools.protoc",
		"-I"+filepath.Join(root, "examples", "bridge"), "--include_imports", "--descriptor_set_out="+schema, "jobs.proto")
	if got := run(t, compile); got.code != 0 {
		t.Fatal(got.stderr)
	}
	command := exec.Command("npm", "run", "--silent", "e2e:bridge")
	command.Dir = web
	suite(t, command, "ROSTER_URL=http://"+address, "ROSTER_BIN="+binary, "JOBS_SCHEMA="+schema)
}

// What an operator sees of a bridge whose server comes, goes and comes back: readiness, health by service
// and as a whole, metrics, roster health, reflection and the access log.
func TestWhatIsSeenOfABridge(t *testing.T) {
	code, venv := jobsCode(t), need(t, "ROSTER_E2E_NEWEST")
	upstream := strings.Replace(freeAddress(t), "localhost", "127.0.0.1", 1)
	given := "http://" + upstream
	// A second server never comes, which is no reason to be unhealthy.
	p := start(t, exec.Command(binary, "bridge", "--addr", "localhost:0", "--admin-addr", "localhost:0", "--log-format", "json", "--access-log", "all",
		given, "http://"+freeAddress(t)))
	admin := p.line(addressOf("admin"))
	address := p.line(servingAt)
	url := "http://" + address

	ready := func() (bool, string) {
		status, text := get(t, admin, "/readyz")
		return status == http.StatusOK, text
	}
	healthOf := func(service string) string {
		_, text := postJSON(t, url+"/grpc.health.v1.Health/Check", `{"service":"`+service+`"}`)
		var reply struct{ Status, Code string }
		if err := json.Unmarshal([]byte(text), &reply); err != nil {
			t.Fatal(text)
		}
		return reply.Status + reply.Code
	}
	up := func() string { return metrics(t, admin)[`roster_bridge_up{upstream="`+given+`"}`] }

	// Nothing is there yet.
	if ok, text := ready(); ok || !strings.Contains(text, "no service of another server can be called: "+given) {
		t.Errorf("ready: %v, %s", ok, text)
	}
	if got := healthOf(""); got != "NOT_SERVING" {
		t.Errorf("a bridge without a server behind it is %s", got)
	}
	if got := roster(t, "health", "--server", url, "--timeout", "20s"); got.code != 1 || !strings.Contains(got.stderr, "none of its servers can be called") {
		t.Errorf("roster health: exit %d, %s%s", got.code, got.stdout, got.stderr)
	}
	if status, text := get(t, address, "/"); status != http.StatusOK || !strings.Contains(text, "It has no page") {
		t.Errorf("the page that looks users up is there, or nothing: %d %.100s", status, text)
	}

	python, _ := startJobs(t, venv, code, upstream)
	eventually(t, "the bridge to be ready", func() bool { ok, _ := ready(); return ok })
	if got := healthOf(""); got != "SERVING" {
		t.Errorf("as a whole it is %s", got)
	}
	if got := healthOf("jobs.v1.JobService"); got != "SERVING" {
		t.Errorf("the service is %s", got)
	}
	if got := healthOf("jobs.v1.None"); got != "not_found" {
		t.Errorf("a service that is not there is %s", got)
	}
	if got := roster(t, "health", "--server", url, "--timeout", "20s"); got.code != 0 || !strings.Contains(got.stdout, "is healthy") {
		t.Errorf("roster health: exit %d, %s%s", got.code, got.stdout, got.stderr)
	}
	if status, text := postJSON(t, url+"/jobs.v1.JobService/Submit", `{"name":"a"}`); status != http.StatusOK {
		t.Fatal(status, text)
	}
	samples := metrics(t, admin)
	for name, want := range map[string]string{
		`roster_bridge_up{upstream="` + given + `"}`:                                                           "1",
		`roster_bridge_processes{state="known",upstream="` + given + `"}`:                                      "1",
		`roster_bridge_processes{state="ready",upstream="` + given + `"}`:                                      "1",
		`roster_bridge_services{state="mounted",upstream="` + given + `"}`:                                     "1",
		`roster_bridge_services{state="differs",upstream="` + given + `"}`:                                     "0",
		`roster_bridge_attempts_total{upstream="` + given + `"}`:                                               "1",
		`roster_bridge_attempts_failed_total{upstream="` + given + `"}`:                                        "0",
		`roster_calls_total{code="ok",codec="json",procedure="/jobs.v1.JobService/Submit",protocol="connect"}`: "1",
	} {
		if samples[name] != want {
			t.Errorf("%s is %q, want %q", name, samples[name], want)
		}
	}
	eventually(t, "the call to be in the access log", func() bool {
		for line := range strings.Lines(p.log()) {
			var entry struct{ Msg, Procedure, Upstream, Code string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Procedure == "/jobs.v1.JobService/Submit" {
				return entry.Upstream == given && entry.Code == "ok"
			}
		}
		return false
	})
	if path, err := exec.LookPath("grpcurl"); err == nil {
		if got := run(t, exec.Command(path, "-plaintext", address, "list")); !strings.Contains(got.stdout, "jobs.v1.JobService") {
			t.Errorf("reflection lists %s%s", got.stdout, got.stderr)
		}
	}

	python.stop(syscall.SIGKILL)
	eventually(t, "the bridge to be not ready", func() bool { ok, _ := ready(); return !ok })
	if got := healthOf("jobs.v1.JobService") + " " + healthOf(""); got != "NOT_SERVING NOT_SERVING" {
		t.Errorf("the service and the whole are %s", got)
	}
	if got := up(); got != "0" {
		t.Errorf("roster_bridge_up is %q", got)
	}
	startJobs(t, venv, code, upstream)
	eventually(t, "the bridge to be ready again", func() bool { ok, _ := ready(); return ok && up() == "1" })
}

// The directory is ready and healthy whatever the servers beside it do.
func TestADirectoryIsReadyWithoutItsBridgedServers(t *testing.T) {
	_, address, admin := serveAdmin(t, "--bridge", "jobs.v1.JobService=http://"+freeAddress(t))
	if status, text := get(t, admin, "/readyz"); status != http.StatusOK {
		t.Error(status, text)
	}
	if _, text := postJSON(t, "http://"+address+"/grpc.health.v1.Health/Check", `{}`); !strings.Contains(text, `"SERVING"`) {
		t.Error(text)
	}
	if got := roster(t, "health", "--server", "http://"+address, "--timeout", "20s"); got.code != 0 {
		t.Error(got)
	}
	if status, text := postJSON(t, "http://"+address+"/jobs.v1.JobService/Get", `{}`); status != http.StatusServiceUnavailable || !strings.Contains(text, "jobs.v1.JobService is unavailable") {
		t.Error(status, text)
	}
}

// A Python server without reflection: the log and the caller are told what to do, and what is told works.
func TestAPythonServerWithoutReflection(t *testing.T) {
	code, venv := jobsCode(t), need(t, "ROSTER_E2E_NEWEST")
	text := string(contents(t, "examples/bridge/server.py"))
	enabled := "    reflection.enable_server_reflection((name, reflection.SERVICE_NAME), server)\n"
	if !strings.Contains(text, enabled) {
		t.Fatal("examples/bridge/server.py does not enable reflection as this test expects")
	}
	bare := filepath.Join(t.TempDir(), "bare.py")
	if err := os.WriteFile(bare, []byte(strings.Replace(text, enabled, "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(filepath.Join(venv, "bin", "python"), bare, "--address", "127.0.0.1:0")
	command.Env = append(os.Environ(), "PYTHONPATH="+code)
	upstream := "http://" + start(t, command).line(findAddress)

	p := start(t, exec.Command(binary, "bridge", "--addr", "localhost:0", "--log-format", "json", upstream))
	url := "http://" + p.line(servingAt)
	eventually(t, "the log to say what to do", func() bool {
		return strings.Contains(p.log(), "pip install grpcio-reflection") && strings.Contains(p.log(), "--bridge-schema FILE")
	})
	eventually(t, "the caller to be told", func() bool {
		status, text := postJSON(t, url+"/jobs.v1.JobService/Submit", `{"name":"a"}`)
		return status == http.StatusServiceUnavailable && strings.Contains(text, "it has no reflection: the log here says what to do")
	})

	// The way that the log has for a server that cannot be changed.
	schema := filepath.Join(t.TempDir(), "jobs.binpb")
	compile := exec.Command(filepath.Join(root, "build", "venv", "gen", "bin", "python"), "-m", "grpc_tools.protoc",
		"-I.", "--include_imports", "--descriptor_set_out="+schema, "jobs.proto")
	compile.Dir = filepath.Join(root, "examples", "bridge")
	if got := run(t, compile); got.code != 0 {
		t.Fatal(got.stderr)
	}
	p = start(t, exec.Command(binary, "bridge", "--addr", "localhost:0", "--log-format", "json", "--bridge-schema", schema, upstream))
	url = "http://" + p.line(servingAt)
	eventually(t, "a call to be answered", func() bool {
		status, _ := postJSON(t, url+"/jobs.v1.JobService/Submit", `{"name":"a"}`)
		return status == http.StatusOK
	})
}

// addressOf finds the address in the line of a message.
func addressOf(message string) func(string) string {
	return func(line string) string {
		var entry struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == message {
			return entry.Address
		}
		return ""
	}
}
