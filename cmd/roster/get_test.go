package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/gen/go/apipb"
	"example.com/roster/gen/go/apipb/apipbconnect"
)

// aFewUsers is a server of the contract with users 1 to 4 and -5.
type aFewUsers struct{}

func (aFewUsers) Health(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (aFewUsers) User(_ context.Context, req *apipb.UserReq) (*apipb.UserReply, error) {
	known := map[int32]*apipb.User{
		1:  {Name: "Ada Lovelace", Age: 36, Email: "ada@example.com"},
		2:  {Name: "Zoë", Age: 104, Email: "zoë@example.com"},
		3:  {},
		4:  {Name: "Tab\there\x1b[31m", Age: 1, Email: "line\nbreak"},
		-5: {Name: "<Below & zero>", Age: 5, Email: "below@example.com"},
	}
	reply := &apipb.UserReply{Message: "success"}
	for _, id := range req.GetUserIDs() {
		if u, ok := known[id]; ok {
			reply.Data = append(reply.Data, u)
		}
	}
	return reply, nil
}

// brokenServer is one whose methods return what cannot be serialized, as seen
// from a client of a Python server.
type brokenServer struct {
	apipbconnect.UnimplementedMyServiceHandler
}

func (brokenServer) Health(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	return nil, connect.NewError(connect.CodeInternal, errors.New("Failed to serialize response!"))
}

// startContract serves s on a port of its own and returns its URL.
func startContract(t *testing.T, s apipbconnect.MyServiceHandler) string {
	t.Helper()
	return startHandler(t, s, apipbconnect.NewMyServiceHandler)
}

// startHandler serves a service by what handler makes of it, and returns its URL.
func startHandler[S any](t *testing.T, service S, handler func(S, ...connect.HandlerOption) (string, http.Handler)) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(handler(service))
	server := httptest.NewUnstartedServer(mux)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server.Config.Protocols = &protocols
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// noServer is the URL of a port on which nothing listens.
func noServer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	return "http://" + listener.Addr().String()
}

// roster runs a command line and returns its exit code and output.
func roster(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, diagnostics strings.Builder
	code = run(t.Context(), args, strings.NewReader(""), &out, &diagnostics)
	return code, out.String(), diagnostics.String()
}

func TestGetPrints(t *testing.T) {
	url := startContract(t, aFewUsers{})
	for _, tc := range []struct {
		name, args     string
		stdout, stderr string
		code           int
	}{
		{
			name: "a table in the order asked, with repeats",
			args: "2 1 2",
			stdout: "" +
				"NAME          AGE  EMAIL\n" +
				"Zoë           104  zoë@example.com\n" +
				"Ada Lovelace  36   ada@example.com\n" +
				"Zoë           104  zoë@example.com\n",
		},
		{
			name: "how many were found, when some were not",
			args: "1 99 100",
			stdout: "" +
				"NAME          AGE  EMAIL\n" +
				"Ada Lovelace  36   ada@example.com\n",
			stderr: "1 of 3 ids found\n",
		},
		{
			name: "control characters without obeying them",
			args: "4",
			stdout: "" +
				"NAME               AGE  EMAIL\n" +
				`Tab\there\x1b[31m  1    line\nbreak` + "\n",
		},
		{
			name: "JSON with zero values",
			args: "1 3 --output json",
			stdout: `[
  {
    "name": "Ada Lovelace",
    "age": 36,
    "email": "ada@example.com"
  },
  {
    "name": "",
    "age": 0,
    "email": ""
  }
]
`,
		},
		{
			name:   "an empty JSON array when nobody was found",
			args:   "99 --output json",
			stdout: "[]\n",
			stderr: "roster: not found: 99\n",
			code:   1,
		},
		{
			name: "ids as the page takes them",
			args: "1,2 3-4 [-5] -- -5",
			stdout: "" +
				"NAME               AGE  EMAIL\n" +
				"Ada Lovelace       36   ada@example.com\n" +
				"Zoë                104  zoë@example.com\n" +
				"                   0    \n" +
				`Tab\there\x1b[31m  1    line\nbreak` + "\n" +
				"<Below & zero>     5    below@example.com\n" +
				"<Below & zero>     5    below@example.com\n",
		},
		{
			name: "ids below zero after --",
			args: "--output json -- -5",
			stdout: `[
  {
    "name": "<Below & zero>",
    "age": 5,
    "email": "below@example.com"
  }
]
`,
		},
	} {
		for _, protocol := range []string{"grpc", "grpcweb", "connect"} {
			t.Run(tc.name+" over "+protocol, func(t *testing.T) {
				args := append([]string{"get", "--timeout", "10s", "--server", url, "--protocol", protocol}, strings.Fields(tc.args)...)
				code, stdout, stderr := roster(t, args...)
				if code != tc.code || stdout != tc.stdout || stderr != tc.stderr {
					t.Errorf("exit code %d\nstdout %q\nwant   %q\nstderr %q\nwant   %q", code, stdout, tc.stdout, stderr, tc.stderr)
				}
			})
		}
	}
}

func TestHealthPrints(t *testing.T) {
	url := startContract(t, aFewUsers{})
	for _, tc := range []struct{ output, want string }{
		{"table", url + " is healthy\n"},
		{"json", "{\n  \"server\": \"" + url + "\",\n  \"healthy\": true\n}\n"},
	} {
		code, stdout, stderr := roster(t, "health", "--timeout", "10s", "--server", url, "--output", tc.output)
		if code != 0 || stdout != tc.want || stderr != "" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", tc.output, code, stdout, stderr)
		}
	}
}

func TestWrongUsageOfGetAndHealth(t *testing.T) {
	for _, tc := range []struct{ args, stderr string }{
		{"get", "give one id or more"},
		{"get one", `"one" is not an id: ids are whole numbers, as in 7, or ranges, as in 5-9`},
		{"get 1 2147483648", `"2147483648" is not an id`},
		{"get 1.5", `"1.5" is not an id`},
		{"get 9-5", "9-5 runs backwards: write 5-9"},
		{"get 1-999999999", "1-999999999 makes more than 100000 ids"},
		{"get ,", "give one id or more"},
		{"get 1 --protocol http", `unknown protocol "http": use grpc, grpcweb or connect`},
		{"get 1 --output xml", `unknown format "xml": use table or json`},
		{"get 1 --timeout 0s", "--timeout 0s: must be more than 0"},
		{"get 1 --timeout soon", "--timeout"},
		{"get 1 --server ftp://localhost", "use http:// (cleartext) or https:// (TLS)"},
		{"get 1 --server localhost:99999", "from 1 to 65535"},
		{"health now", "takes no arguments"},
		{"health --output xml", `unknown format "xml": use table or json`},
		{"remove", "give one id or more, as in 7, 1,2 or 5-9"},
		{"update -5 --age 7", "unknown shorthand flag: '5' in -5: before an id below zero, write --"},
		{"add --name Ann --age old", "--age old: must be a whole number\n"},
		{"list --limit 99999999999999999999", "--limit 99999999999999999999: is too large"},
		{"log --from-revision 1 --last 3", "--last and --from-revision exclude each other"},
	} {
		code, stdout, stderr := roster(t, strings.Fields(tc.args)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, tc.stderr) {
			t.Errorf("roster %s: exit code %d, stdout %q, stderr %q, want 2 and %q", tc.args, code, stdout, stderr, tc.stderr)
		}
	}
}

func TestGetAndHealthSayWhatIsWrong(t *testing.T) {
	nobody := noServer(t)
	broken := startContract(t, brokenServer{})
	for _, tc := range []struct{ args, stderr string }{
		{"get 1 --timeout 200ms --server " + nobody, "User at " + nobody + ": nothing listens there; start the server"},
		{"health --server " + nobody, "Health at " + nobody + ": nothing listens there; start the server"},
		{"get 1 --server " + broken, "the server does not have this method"},
		{"health --server " + broken, "a Python method that returns None"},
	} {
		code, stdout, stderr := roster(t, strings.Fields(tc.args)...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, tc.stderr) {
			t.Errorf("roster %s: exit code %d, stdout %q, stderr %q, want 1 and %q", tc.args, code, stdout, stderr, tc.stderr)
		}
	}
}

func TestGetTakesItsFlagsFromTheEnvironment(t *testing.T) {
	t.Setenv("ROSTER_SERVER", startContract(t, aFewUsers{}))
	t.Setenv("ROSTER_PROTOCOL", "connect")
	t.Setenv("ROSTER_OUTPUT", "json")
	t.Setenv("ROSTER_TIMEOUT", "10s")
	code, stdout, stderr := roster(t, "get", "99")
	if code != 1 || stdout != "[]\n" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	t.Setenv("ROSTER_PROTOCOL", "http")
	if code, _, stderr := roster(t, "get", "99"); code != 2 || !strings.Contains(stderr, "ROSTER_PROTOCOL") {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
}
