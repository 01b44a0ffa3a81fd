package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// serveAdmin is serve with an admin port, whose address it returns too.
func serveAdmin(t *testing.T, arguments ...string) (p *process, address, admin string) {
	t.Helper()
	if !strings.Contains(strings.Join(arguments, " "), "--store") {
		arguments = append(arguments, "--store", filepath.Join(t.TempDir(), "roster.db"), "--sample")
	}
	arguments = append([]string{"serve", "--addr", "localhost:0", "--admin-addr", "localhost:0", "--log-format", "json"}, arguments...)
	p = start(t, exec.Command(binary, arguments...))
	told := func(message string) string {
		return p.line(func(line string) string {
			var entry struct{ Msg, Address string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == message {
				return entry.Address
			}
			return ""
		})
	}
	admin = told("admin")
	return p, told("serving"), admin
}

// get asks an admin port for a path.
func get(t *testing.T, admin, path string) (status int, body string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	response, err := client.Get("http://" + admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// metrics scrapes an admin port: values by name and labels.
func metrics(t *testing.T, admin string) map[string]string {
	t.Helper()
	status, text := get(t, admin, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics: %d %s", status, text)
	}
	samples := make(map[string]string)
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if line := lines.Text(); !strings.HasPrefix(line, "#") {
			i := strings.LastIndexByte(line, ' ')
			samples[line[:i]] = line[i+1:]
		}
	}
	return samples
}

// curl posts JSON with curl and returns the status.
func curl(t *testing.T, url, body string) string {
	t.Helper()
	got := run(t, exec.Command("curl", "-sS", "--noproxy", "*", "--max-time", "20", "-o", os.DevNull, "-w", "%{http_code}",
		"-H", "content-type: application/json", "-d", body, url))
	if got.code != 0 {
		t.Fatalf("curl: %s", got.stderr)
	}
	return got.stdout
}

func TestMetricsOfEveryProtocolAndCode(t *testing.T) {
	_, address, admin := serveAdmin(t, "--max-batch", "3")
	url := "http://" + address
	for _, protocol := range []string{"grpc", "grpcweb", "connect"} {
		if got := roster(t, "get", "1", "2", "--server", url, "--protocol", protocol, "--timeout", "20s"); got.code != 0 {
			t.Fatalf("%s: %s", protocol, got.stderr)
		}
		if got := roster(t, "get", "1", "2", "3", "4", "--server", url, "--protocol", protocol, "--timeout", "20s"); got.code != 1 {
			t.Fatalf("%s: too many ids: exit %d", protocol, got.code)
		}
	}
	user := url + "/MyService/User"
	for body, want := range map[string]string{`{"userIDs":[1]}`: "200", `{`: "400", `{"userIDs":[1,2,3,4]}`: "429"} {
		if status := curl(t, user, body); status != want {
			t.Errorf("%s: %s, want %s", body, status, want)
		}
	}
	if status := curl(t, url+"/MyService/None", "{}"); status != "404" {
		t.Errorf("no such procedure: %s", status)
	}
	for path, want := range map[string]int{"/": 200, "/none": 404, "/MyService/User": 415, "/grpc.health.v1.Health/Check": 405} {
		if status, _ := get(t, address, path); status != want {
			t.Errorf("GET %s: %d, want %d", path, status, want)
		}
	}

	samples := metrics(t, admin)
	calls := func(protocol, codec, code string) string {
		return fmt.Sprintf("roster_calls_total{code=%q,codec=%q,procedure=\"/MyService/User\",protocol=%q}", code, codec, protocol)
	}
	want := map[string]string{
		calls("grpc", "proto", "ok"):                                                         "1",
		calls("grpc-web", "proto", "ok"):                                                     "1",
		calls("connect", "proto", "ok"):                                                      "1",
		calls("connect", "json", "ok"):                                                       "1",
		calls("grpc", "proto", "resource_exhausted"):                                         "1",
		calls("grpc-web", "proto", "resource_exhausted"):                                     "1",
		calls("connect", "proto", "resource_exhausted"):                                      "1",
		calls("connect", "json", "resource_exhausted"):                                       "1",
		calls("connect", "json", "invalid_argument"):                                         "1",
		`roster_call_duration_seconds_count{procedure="/MyService/User",protocol="grpc"}`:    "2",
		`roster_call_duration_seconds_count{procedure="/MyService/User",protocol="connect"}`: "5",
		`roster_requests_refused_total{reason="unimplemented"}`:                              "1",
		`roster_requests_refused_total{reason="method"}`:                                     "1",
		`roster_requests_refused_total{reason="content_type"}`:                               "1",
		`roster_call_faults_total{procedure="/MyService/User"}`:                              "0",
		`roster_page_requests_total{status="2xx"}`:                                           "1",
		`roster_page_requests_total{status="4xx"}`:                                           "1",
		`roster_calls_in_flight{procedure="/MyService/User"}`:                                "0",
		`roster_cache_misses_total`:                                                          "2",
		`roster_store_query_duration_seconds_count{operation="get"}`:                         "1",
		`roster_draining`: "0",
	}
	for name, value := range want {
		if samples[name] != value {
			t.Errorf("%s is %q, want %s", name, samples[name], value)
		}
	}
}

// What the log has of a call is told in docs/operations.md; here it is held to
// what it must not have.
func TestAccessLogHasNoPersonalData(t *testing.T) {
	p, address, _ := serveAdmin(t, "--access-log", "all")
	url := "http://" + address
	roster(t, "get", "17", "--server", url, "--timeout", "20s")
	curl(t, url+"/MyService/User", `{"userIDs":[17,98765]}`)
	curl(t, url+"/MyService/User", `{"userIDs":["leila.dubois@example.com"]}`)
	curl(t, url+"/leila.dubois@example.com?id=98765", "{}")
	get(t, address, "/?leila.dubois@example.com")
	if code := p.stop(terminate); code != 0 {
		t.Fatalf("exit %d", code)
	}
	person := sample(t)[17]
	lines := 0
	for line := range strings.Lines(p.log()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("not JSON: %s", line)
		}
		if entry["msg"] != "call" && entry["msg"] != "request" {
			continue
		}
		lines++
		for _, personal := range []string{"leila", "98765", person.Name, person.Email, `"17"`, "[17"} {
			if strings.Contains(line, personal) {
				t.Errorf("%q is in %s", personal, line)
			}
		}
		if entry["peer"] != "127.0.0.1" && entry["peer"] != "::1" || entry["ms"] == nil || entry["sent"] == nil || entry["time"] == nil {
			t.Errorf("a line without all of it: %s", line)
		}
	}
	if lines != 5 {
		t.Errorf("%d lines, want 5:\n%s", lines, p.log())
	}
}

func TestAccessLogOffAndErrors(t *testing.T) {
	for setting, want := range map[string]int{"off": 0, "errors": 1, "2": 3} {
		p, address, admin := serveAdmin(t, "--access-log", setting)
		for range 20 {
			get(t, address, "/")
		}
		get(t, address, "/none")
		skipped := metrics(t, admin)["roster_access_log_skipped_total"]
		p.stop(terminate)
		lines := strings.Count(p.log(), `"msg":"request"`)
		// Of the successes a few more if a second has ended meanwhile.
		if lines < want || lines > want && setting != "2" || lines > 3*want {
			t.Errorf("--access-log %s: %d lines, want %d:\n%s", setting, lines, want, p.log())
		}
		if setting == "2" && skipped == "0" {
			t.Errorf("--access-log %s: nothing was skipped", setting)
		}
	}
}

func TestAdmin(t *testing.T) {
	p, _, admin := serveAdmin(t)
	for path, want := range map[string]string{"/livez": "alive", "/readyz": "ready", "/": "/metrics", "/debug/pprof/": "goroutine", "/debug/pprof/heap?debug=1": "heap profile"} {
		if status, body := get(t, admin, path); status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.100s", path, status, body)
		}
	}
	for arguments, want := range map[string]string{
		"--admin-addr " + admin:                     "is in use by another program",
		"--admin-addr nonsense":                     "want host:port",
		"--addr :50051 --admin-addr :50051":         "give it a port of its own",
		"--access-log some":                         "want all, errors, off, or a number",
		"--access-log -1":                           "want all, errors, off, or a number",
		"--slow-call -1s":                           "must not be negative",
		"--admin-addr localhost:0 --log-level none": "want debug, info, warn or error",
	} {
		got := roster(t, append([]string{"serve", "--store", filepath.Join(t.TempDir(), "r.db")}, strings.Fields(arguments)...)...)
		if got.code == 0 || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: exit %d, want %q: %s", arguments, got.code, want, got.stderr)
		}
	}
	if code := p.stop(terminate); code != 0 {
		t.Errorf("exit %d", code)
	}
	if _, err := net.Dial("tcp", admin); err == nil {
		t.Error("the admin port is open after the end")
	}
}

func TestAdminBeyondTheLoopbackIsWarnedOf(t *testing.T) {
	p := start(t, exec.Command(binary, "serve", "--addr", "localhost:0", "--admin-addr", ":0", "--store", filepath.Join(t.TempDir(), "r.db"), "--log-format", "json"))
	if warned := p.line(func(line string) string {
		if strings.Contains(line, "--admin-addr is not on the loopback") || strings.Contains(line, `"serving"`) {
			return line
		}
		return ""
	}); !strings.Contains(warned, `"WARN"`) {
		t.Errorf("no warning before %s", warned)
	}
}

// The admin port closes after the other one, so that a scrape sees the drain.
func TestScrapeDuringADrain(t *testing.T) {
	p, address, admin := serveAdmin(t)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	const body = `{"userIDs":[1]}`
	fmt.Fprintf(conn, "POST /MyService/User HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{", len(body))
	eventually(t, "the call runs", func() bool {
		return metrics(t, admin)[`roster_calls_in_flight{procedure="/MyService/User"}`] == "1"
	})
	if status, body := get(t, admin, "/readyz"); status != 200 {
		t.Errorf("/readyz before: %d %s", status, body)
	}
	if err := p.command.Process.Signal(terminate); err != nil {
		t.Fatal(err)
	}
	eventually(t, "/readyz says that it drains", func() bool {
		status, text := get(t, admin, "/readyz")
		return status == 503 && strings.Contains(text, "draining")
	})
	samples := metrics(t, admin)
	if samples["roster_draining"] != "1" || samples[`roster_calls_in_flight{procedure="/MyService/User"}`] != "1" {
		t.Errorf("draining %s, in flight %s; want 1 and 1", samples["roster_draining"], samples[`roster_calls_in_flight{procedure="/MyService/User"}`])
	}
	if status, _ := get(t, admin, "/livez"); status != 200 {
		t.Errorf("/livez: %d", status)
	}
	if _, err := io.WriteString(conn, body[1:]); err != nil {
		t.Fatal(err)
	}
	if reply, _ := io.ReadAll(conn); !strings.Contains(string(reply), "Leila Dubois") {
		t.Errorf("the call that ran: %s", reply)
	}
	<-p.exited
	if code := p.command.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// How many users there are, how large the store is, and which new files could not be used.
func TestMetricsOfTheStoreAndOfReloads(t *testing.T) {
	folder := t.TempDir()
	store, tokens := filepath.Join(folder, "roster.db"), filepath.Join(folder, "tokens.json")
	createToken(t, tokens, "somebody", "read")
	_, _, admin := serveAdmin(t, "--sample", "--store", store, "--tokens", tokens)
	shows := func(want ...string) {
		t.Helper()
		var text string
		for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(50 * time.Millisecond) {
			_, text = get(t, admin, "/metrics")
			if !slices.ContainsFunc(want, func(line string) bool { return !strings.Contains(text, "\n"+line) }) {
				return
			}
		}
		t.Fatalf("want %q in\n%s", want, text)
	}
	shows("roster_users 300\n", `roster_store_size_bytes{file="data"} `, `roster_store_size_bytes{file="log"} `,
		`roster_reloads_total{files="tokens",outcome="ok"} 0`+"\n", `roster_reloads_total{files="tokens",outcome="refused"} 0`+"\n")

	users := filepath.Join(folder, "more.csv")
	if err := os.WriteFile(users, []byte("id,name,age,email\n1000,More,1,more@example.com\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := roster(t, "import", "--store", store, users); got.code != 0 {
		t.Fatal(got.stderr)
	}
	createToken(t, tokens, "somebody else", "read")
	shows("roster_users 301\n", `roster_reloads_total{files="tokens",outcome="ok"} 1`+"\n")
	if err := os.WriteFile(tokens, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	shows(`roster_reloads_total{files="tokens",outcome="refused"} 1` + "\n")
}
