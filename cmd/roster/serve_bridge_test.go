package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/roster/server"
	"example.com/roster/server/auth"
	"example.com/roster/server/bridge"
	"example.com/roster/server/rpc"
)

func TestTheFlagsOfTheBridgeAreChecked(t *testing.T) {
	for _, test := range []struct{ arguments, want string }{
		{"bridge", "no server is given: roster bridge http://localhost:50052, or set ROSTER_BRIDGE"},
		{"bridge localhost:50052", `"localhost:50052" is no URL of a gRPC server: it needs a scheme, a host and a port, as in http://localhost:50052`},
		{"bridge ftp://localhost:50052", "its scheme must be http or https"},
		{"bridge http://localhost:50052/path", "it may have a scheme, a host and a port, and nothing else"},
		{"bridge http://a:1,http://a:1", "http://a:1 is there twice"},
		{"bridge http://a:1,https://b:1", "use http or https for both"},
		{"bridge 7=http://a:1", `"7" is no full name of a service`},
		{"bridge http://a:1 --bridge-ca ca.pem", "--bridge-ca is for servers with TLS, and none has a URL that begins with https: http://a:1"},
		{"bridge https://a:1 --bridge-cert cert.pem", "--bridge-cert and --bridge-key go together"},
		{"bridge http://a:1 --bridge-cert cert.pem --bridge-key key.pem", "--bridge-cert is for servers with TLS"},
		{"bridge http://a:1 --bridge-role Get=read", `"Get=read" is no rule: write SERVICE/METHOD=ROLE`},
		{"bridge http://a:1 --bridge-role a.A/Get=all", `has the role "all": there are anyone, read and write`},
		{"bridge http://a:1 --bridge-max-message 0", "want a size from 1 to 256MiB"},
		{"bridge http://a:1 --bridge-max-message 257MiB", "want a size from 1 to 256MiB"},
		{"bridge http://a:1 --bridge-identity-header X-Caller --tokens t.json", "want a metadata key in lower case, such as x-caller"},
		{"bridge http://a:1 --bridge-identity-header user-agent --tokens t.json", "user-agent is a field of HTTP or of gRPC itself"},
		{"bridge http://a:1 --bridge-identity-header grpc-caller --tokens t.json", "grpc-caller is a field of HTTP or of gRPC itself"},
		{"bridge http://a:99999", "its port must be a number from 1 to 65535"},
		{"bridge grpc.health.v1.Health=http://a:1", "grpc.health.v1.Health is not bridged: the port has its own"},
		{"bridge http://a:1 --bridge-identity-header x-caller", "--bridge-identity-header goes with --tokens or --tls-client-ca: without them no caller has a name"},
		{"bridge http://a:1 --store roster.db", "unknown flag: --store"},
		{"bridge http://a:1 --create=false", "unknown flag: --create"},
		{"serve --bridge-schema x.binpb", "--bridge-schema goes with --bridge"},
		{"serve --bridge-role a.A/Get=read", "--bridge-role goes with --bridge"},
		{"serve --bridge-max-message 8MiB", "--bridge-max-message goes with --bridge"},
		{"serve --bridge-ca ca.pem", "--bridge-ca goes with --bridge"},
		{"serve --bridge-identity-header x-caller --tokens t.json", "--bridge-identity-header goes with --bridge"},
	} {
		code, stdout, stderr := roster(t, strings.Fields(test.arguments)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("roster %s: exit code %d, %q, want 2 and %q", test.arguments, code, stderr, test.want)
		}
	}
}

func TestTheBridgeIsConfiguredByTheEnvironment(t *testing.T) {
	for variable, want := range map[string]string{
		"ROSTER_BRIDGE":                 "ROSTER_BRIDGE in the environment: \"nonsense\" is no URL of a gRPC server",
		"ROSTER_BRIDGE_ROLE":            `ROSTER_BRIDGE_ROLE="nonsense" in the environment`,
		"ROSTER_BRIDGE_MAX_MESSAGE":     `ROSTER_BRIDGE_MAX_MESSAGE="nonsense" in the environment`,
		"ROSTER_BRIDGE_SCHEMA":          "--bridge-schema: open nonsense",
		"ROSTER_BRIDGE_CA":              "--bridge-ca is for servers with TLS",
		"ROSTER_BRIDGE_CERT":            "--bridge-cert and --bridge-key go together",
		"ROSTER_BRIDGE_KEY":             "--bridge-cert and --bridge-key go together",
		"ROSTER_BRIDGE_IDENTITY_HEADER": "--bridge-identity-header goes with --tokens",
	} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv("ROSTER_BRIDGE", "http://127.0.0.1:1 a.A=http://127.0.0.1:2")
			t.Setenv("ROSTER_ADDR", "localhost:0")
			t.Setenv(variable, "nonsense")
			if code, _, stderr := roster(t, "bridge"); code == 0 || !strings.Contains(stderr, want) {
				t.Errorf("exit code %d, %q, want %q", code, stderr, want)
			}
		})
	}
}

func TestAnExampleRequestHasTheFieldsOfTheMessage(t *testing.T) {
	for text, want := range map[string]string{
		``: `{}`,
		`name: "first_name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL`:           `{"firstName":"a"}`,
		`name: "id" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL`:                    `{"id":"1"}`,
		`name: "n" number: 1 type: TYPE_UINT32 label: LABEL_OPTIONAL`:                    `{"n":1}`,
		`name: "b" number: 1 type: TYPE_BYTES label: LABEL_OPTIONAL`:                     `{"b":"YQ=="}`,
		`name: "on" number: 1 type: TYPE_BOOL label: LABEL_OPTIONAL`:                     `{"on":true}`,
		`name: "l" number: 1 type: TYPE_STRING label: LABEL_REPEATED`:                    `{}`,
		`name: "e" number: 1 type: TYPE_ENUM type_name: ".p.E" label: LABEL_OPTIONAL`:    `{"e":"ONE"}`,
		`name: "m" number: 1 type: TYPE_MESSAGE type_name: ".p.M" label: LABEL_OPTIONAL`: `{}`,
	} {
		message := `message_type: { name: "M" }`
		if text != "" {
			message = `message_type: { name: "M" field: {` + text + `} }`
		}
		service := exampleService(t, message)
		if got := exampleBody(service.Service.Methods().Get(0).Input()); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// exampleService is a service p.S with the methods Delete and GetIt, and streams.
func exampleService(t *testing.T, message string) rpc.Mount {
	t.Helper()
	file := new(descriptorpb.FileDescriptorProto)
	if err := prototext.Unmarshal([]byte(`name: "p.proto" package: "p" syntax: "proto3" `+message+`
		enum_type: { name: "E" value: { name: "ZERO" number: 0 } value: { name: "ONE" number: 1 } }
		service: { name: "S"
			method: { name: "Delete" input_type: ".p.M" output_type: ".p.M" }
			method: { name: "Watch" input_type: ".p.M" output_type: ".p.M" server_streaming: true }
			method: { name: "GetIt" input_type: ".p.M" output_type: ".p.M" } }`), file); err != nil {
		t.Fatal(err)
	}
	linked, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return rpc.Mount{Service: linked.Services().Get(0), Policies: map[string]rpc.Policy{
		"Delete": {Role: rpc.Writer}, "Watch": {Role: rpc.Reader, MaxStreams: 1}, "GetIt": {Role: rpc.Reader}}}
}

// anyPort is a port that takes every mount.
type anyPort struct{ bridge.Port }

func (anyPort) Mount(...rpc.Mount) error { return nil }

func TestWhatIsBridgedIsToldOnceItCanBeCalled(t *testing.T) {
	const message = `message_type: { name: "M" field: { name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } }`
	none := func() *auth.Set { return nil }
	for _, test := range []struct {
		name    string
		config  server.Config
		welcome welcome
		open    string // methods in the log
		lines   string
	}{
		{"this machine", server.Config{Local: true}, welcome{address: "localhost:1"}, "", `
  Bridged    p.S: Delete, Watch, GetIt
  curl       curl -H 'content-type: application/json' -d '{"name":"a"}' http://localhost:1/p.S/GetIt

`},
		{"the network", server.Config{}, welcome{address: "a.example:1"}, "[p.S/Watch p.S/GetIt]", `
  Bridged    p.S: Delete, Watch, GetIt
  curl       curl -H 'content-type: application/json' -d '{"name":"a"}' http://a.example:1/p.S/GetIt

`},
		{"tokens", server.Config{Tokens: none}, welcome{address: "a.example:1", tokens: "t.json"}, "", `
  Bridged    p.S: Delete, Watch, GetIt
  A token    export ROSTER_TOKEN=$(go run ./cmd/roster token create --role read --name me-$$ --tokens t.json)
  curl       curl -H "authorization: Bearer $ROSTER_TOKEN" -H 'content-type: application/json' -d '{"name":"a"}' http://a.example:1/p.S/GetIt

`},
		{"tokens and open reads", server.Config{Tokens: none, OpenReads: true}, welcome{address: "a.example:1"}, "[p.S/Watch p.S/GetIt]", "GetIt"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log, terminal bytes.Buffer
			p := &bridgedPort{Port: anyPort{}, config: test.config, welcome: test.welcome, address: "here",
				log: slog.New(slog.NewTextHandler(&log, nil)), terminal: &terminal}
			service := exampleService(t, message)
			service.Down = true
			mount := func() {
				t.Helper()
				if err := p.Mount(service); err != nil {
					t.Fatal(err)
				}
			}
			if mount(); log.Len()+terminal.Len() > 0 {
				t.Errorf("told of a service that cannot be called: %s%s", &log, &terminal)
			}
			service.Down = false
			mount()
			if got := terminal.String(); got != test.lines && !(len(test.lines) < 10 && strings.Contains(got, test.lines)) {
				t.Errorf("the terminal has\n%s\nwant\n%s", got, test.lines)
			}
			if (log.Len() > 0) != (test.open != "") || !strings.Contains(log.String(), test.open) {
				t.Errorf("the log has %s, want %s", &log, test.open)
			}
			before := log.Len() + terminal.Len()
			service.Down = true
			mount()
			service.Down = false
			if mount(); log.Len()+terminal.Len() != before {
				t.Error("told of again")
			}
		})
	}
}

// A port of the network without tokens takes no call that may change something, so no line suggests one.
func TestNoLineSuggestsACallThatIsRefused(t *testing.T) {
	service := exampleService(t, `message_type: { name: "M" }`)
	for name := range service.Policies {
		policy := service.Policies[name]
		policy.Role = rpc.Writer
		service.Policies[name] = policy
	}
	var terminal bytes.Buffer
	p := &bridgedPort{Port: anyPort{}, log: slog.New(slog.DiscardHandler), terminal: &terminal}
	if err := p.Mount(service); err != nil {
		t.Fatal(err)
	}
	if got := terminal.String(); strings.Contains(got, "curl -H") || !strings.Contains(got, "needs --tokens") {
		t.Error(got)
	}
}
