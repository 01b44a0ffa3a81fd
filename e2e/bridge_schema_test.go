package e2e

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.com/roster/server/tlsfile/certtest"
)

// generate compiles protos of a folder to Python.
func generate(t *testing.T, folder string, protos ...string) (code string) {
	t.Helper()
	code = t.TempDir()
	command := exec.Command(filepath.Join(root, "build", "venv", "gen", "bin", "python"), append([]string{"-m", "grpc_tools.protoc",
		"-I" + folder, "--python_out=" + code, "--grpc_python_out=" + code}, protos...)...)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
	return code
}

// pythonScript starts a server of e2e/python and returns its address.
func pythonScript(t *testing.T, venv, script string, arguments ...string) (address string) {
	t.Helper()
	p := start(t, exec.Command(filepath.Join(venv, "bin", "python"), append([]string{filepath.Join(root, "e2e", "python", script)}, arguments...)...))
	return p.line(findAddress)
}

// mountedAt starts roster bridge, waits until it has a service, and returns its URL.
func mountedAt(t *testing.T, arguments ...string) (url string) {
	t.Helper()
	p := start(t, exec.Command(binary, append([]string{"bridge", "--addr", "localhost:0", "--log-format", "json"}, arguments...)...))
	url = "http://" + p.line(servingAt)
	eventually(t, "a service to be mounted", func() bool { return strings.Contains(p.log(), "bridge: mounted") })
	return url
}

// works calls a job server through the bridge, unary and as a stream.
func works(t *testing.T, url string) {
	t.Helper()
	// The connection for calls may still be on its way.
	eventually(t, "the job server to answer", func() bool {
		status, _ := postJSON(t, url+"/jobs.v1.JobService/Submit", `{"name":"first"}`)
		return status == http.StatusOK
	})
	status, text := postJSON(t, url+"/jobs.v1.JobService/Submit", `{"name":"report","payload":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"3s"}}`)
	if status != http.StatusOK || !strings.Contains(text, `"payload":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"3s"}`) {
		t.Error(status, text)
	}
	body := "\x00\x00\x00\x00\x0a" + `{"id":"1"}`
	reply, err := http.Post(url+"/jobs.v1.JobService/Watch", "application/connect+json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	var stream strings.Builder
	if _, err := io.Copy(&stream, reply.Body); err != nil || !strings.Contains(stream.String(), `"state":"STATE_DONE"`) {
		t.Error(stream.String(), err)
	}
}

// A server without reflection is called by a descriptor set, whichever program has made that.
func TestBridgeSchema(t *testing.T) {
	newest, oldest := need(t, "ROSTER_E2E_NEWEST"), need(t, "ROSTER_E2E_OLDEST")
	code, bridge := jobsCode(t), filepath.Join(root, "examples", "bridge")
	folder := t.TempDir()
	byBuf, byProtoc := filepath.Join(folder, "buf.binpb"), filepath.Join(folder, "protoc.binpb")
	for _, command := range []*exec.Cmd{
		exec.Command("go", "tool", "buf", "build", bridge, "-o", byBuf),
		exec.Command(filepath.Join(root, "build", "venv", "gen", "bin", "python"), "-m", "grpc_tools.protoc", "-I"+bridge,
			"--include_imports", "--descriptor_set_out="+byProtoc, "jobs.proto"),
	} {
		command.Dir = root
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", command, err, out)
		}
	}
	for _, test := range []struct {
		name, venv, schema string
		arguments          []string
	}{
		{"buf, newest, threads", newest, byBuf, nil},
		{"protoc, newest, asyncio", newest, byProtoc, []string{"--asyncio"}},
		{"protoc, oldest, threads", oldest, byProtoc, nil},
		{"buf, oldest, asyncio", oldest, byBuf, []string{"--asyncio"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			address := pythonScript(t, test.venv, "jobs_bare.py", append([]string{code, bridge}, test.arguments...)...)
			works(t, mountedAt(t, "http://"+address, "--bridge-schema", test.schema))
		})
	}
	t.Run("without a schema, the log says what to do", func(t *testing.T) {
		t.Parallel()
		p := start(t, exec.Command(binary, "bridge", "--addr", "localhost:0", "--log-format", "json", "http://"+pythonScript(t, oldest, "jobs_bare.py", code, bridge)))
		eventually(t, "the log to say it", func() bool {
			return strings.Contains(p.log(), "the server has no reflection service, so its services are not known. In Python: pip install grpcio-reflection")
		})
	})
	for name, content := range map[string]string{"not a descriptor set": "syntax = \"proto3\";", "an empty one": ""} {
		file := filepath.Join(folder, "bad")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := roster(t, "bridge", "http://localhost:1", "--addr", "localhost:0", "--bridge-schema", file); got.code == 0 || !strings.Contains(got.stderr, "descriptor set") {
			t.Error(name, got)
		}
	}
}

// A Python server that asks for client certificates is called with --bridge-ca, --bridge-cert and
// --bridge-key. Without them the log says which flags there are.
func TestBridgeWithMutualTLS(t *testing.T) {
	newest, oldest := need(t, "ROSTER_E2E_NEWEST"), need(t, "ROSTER_E2E_OLDEST")
	code, bridge, folder := jobsCode(t), filepath.Join(root, "examples", "bridge"), t.TempDir()
	ca := certtest.NewCA(t, "upstream")
	caFile := ca.Write(t, folder)
	servers, callers := filepath.Join(folder, "server"), filepath.Join(folder, "caller")
	for _, name := range []string{servers, callers} {
		if err := os.Mkdir(name, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	certFile, keyFile := ca.Issue(t, certtest.For("localhost", "127.0.0.1")).Write(t, servers)
	callerCert, callerKey := ca.Issue(t, certtest.Named("roster")).Write(t, callers)
	schema := filepath.Join(folder, "jobs.binpb")
	build := exec.Command("go", "tool", "buf", "build", bridge, "-o", schema)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, venv := range map[string]string{"newest": newest, "oldest": oldest} {
		for _, arguments := range [][]string{nil, {"--asyncio"}} {
			t.Run(strings.Join(append([]string{name}, arguments...), " "), func(t *testing.T) {
				t.Parallel()
				address := pythonScript(t, venv, "jobs_bare.py", append([]string{code, bridge, "--cert", certFile, "--key", keyFile, "--client-ca", caFile}, arguments...)...)
				works(t, mountedAt(t, "https://"+address, "--bridge-schema", schema, "--bridge-ca", caFile, "--bridge-cert", callerCert, "--bridge-key", callerKey))
				for want, wrong := range map[string][]string{
					"it may ask for a client certificate, which --bridge-cert and --bridge-key give": {"https://" + address, "--bridge-ca", caFile},
					"its certificate is not accepted: --bridge-ca has the CA certificates to trust":  {"https://" + address},
					"it may speak HTTP/1.1 alone, or TLS, which needs a URL that begins with https":  {"http://" + address},
				} {
					p := start(t, exec.Command(binary, append([]string{"bridge", "--addr", "localhost:0", "--log-format", "json"}, wrong...)...))
					eventually(t, "the log to say "+want, func() bool {
						return strings.Contains(p.log(), want) || strings.HasPrefix(wrong[0], "http://") && strings.Contains(p.log(), "it speaks TLS: use a URL that begins with https")
					})
				}
			})
		}
	}
}

// MyService of a team's own server is called by every protocol, without reflection or a schema, because
// Roster knows its contract.
func TestBridgeToMyServiceOfEveryGrpcio(t *testing.T) {
	code := generate(t, filepath.Join(root, "proto"), "api.proto")
	for name, venv := range map[string]string{"newest": need(t, "ROSTER_E2E_NEWEST"), "oldest": need(t, "ROSTER_E2E_OLDEST")} {
		for _, kind := range []string{"threads", "asyncio"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				_, address := serve(t, "--bridge", "MyService=http://"+pythonScript(t, venv, "myservice_bare.py", code, kind))
				const want = `{"message":"success","data":[{"name":"user 7","age":7,"email":"a@example.com"}]}`
				eventually(t, "the server to answer", func() bool {
					_, text := postJSON(t, "http://"+address+"/MyService/User", `{"userIDs":[7]}`)
					return text == want
				})
				for _, protocol := range []string{"grpc", "grpcweb", "connect"} {
					if got := roster(t, "get", "7", "--server", "http://"+address, "--protocol", protocol); got.code != 0 || !strings.Contains(got.stdout, "user 7") {
						t.Error(protocol, got)
					}
				}
				status, text := postJSON(t, "http://"+address+"/MyService/User", `{"userIds":[7]}`)
				if status != http.StatusBadRequest || !strings.Contains(text, `do you mean \"userIDs\"?`) {
					t.Error(status, text)
				}
			})
		}
	}
}

// A proto that imports others is served by what the reflection of each grpcio tells: the oldest leaves the
// imports out. What cannot be found by the name of its file is found by its type, and what is not there at
// all is named.
func TestBridgeToProtosThatImportOthers(t *testing.T) {
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "parts"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"app.proto": `syntax = "proto3"; package app;
import "parts/size.proto"; import "google/protobuf/timestamp.proto"; import "google/protobuf/any.proto";
service App { rpc Echo(Item) returns (Item); }
message Item { parts.Size size = 1; google.protobuf.Timestamp at = 2; google.protobuf.Any any = 3; }`,
		"parts/size.proto": `syntax = "proto3"; package parts; import "parts/unit.proto"; message Size { int64 length = 1; Unit unit = 2; }`,
		"parts/unit.proto": `syntax = "proto3"; package parts; enum Unit { UNIT_METRE = 0; UNIT_FOOT = 1; }`,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code := generate(t, folder, "app.proto", "parts/size.proto", "parts/unit.proto")
	for name, venv := range map[string]string{"newest": need(t, "ROSTER_E2E_NEWEST"), "oldest": need(t, "ROSTER_E2E_OLDEST")} {
		for _, word := range []string{"whole", "named"} {
			t.Run(name+" "+word, func(t *testing.T) {
				t.Parallel()
				url := mountedAt(t, "http://"+pythonScript(t, venv, "reflecting.py", code, word))
				const item = `{"size":{"length":"5","unit":"UNIT_FOOT"},"at":"2024-01-02T03:04:05Z","any":{"@type":"type.googleapis.com/parts.Size","length":"1","unit":"UNIT_METRE"}}`
				eventually(t, "the server to answer", func() bool {
					_, text := postJSON(t, url+"/app.App/Echo", item)
					return text == item
				})
				if status, text := postJSON(t, url+"/app.App/Echo", `{"size":{"lenght":1}}`); status != http.StatusBadRequest || !strings.Contains(text, `unknown field \"lenght\": do you mean \"length\"?`) {
					t.Error(status, text)
				}
			})
		}
	}
	t.Run("oldest less", func(t *testing.T) {
		t.Parallel()
		p := start(t, exec.Command(binary, "bridge", "--addr", "localhost:0", "--log-format", "json", "http://"+pythonScript(t, need(t, "ROSTER_E2E_OLDEST"), "reflecting.py", code, "less")))
		const want = "bridge: app.App cannot be mounted: app.proto uses parts.Size, which no file of the server defines"
		eventually(t, "the log to say "+want, func() bool { return strings.Contains(p.log(), want) })
	})
}
