package main

import (
	"os/exec"
	"strings"
	"testing"
)

func TestWelcome(t *testing.T) {
	for _, test := range []struct {
		name    string
		welcome welcome
		want    string
	}{
		{"cleartext", welcome{address: "localhost:1"}, `
  The page   http://localhost:1/
  curl       curl -H 'content-type: application/json' -d '{"userIDs":[1,2]}' http://localhost:1/MyService/User
  Python     pip install grpcio protobuf && PYTHONPATH=gen/python python3 -c "import grpc, api_pb2 as pb, api_pb2_grpc as rpc; print(rpc.MyServiceStub(grpc.insecure_channel('localhost:1')).User(pb.UserReq(userIDs=[1, 2])))"
  Go         go run ./cmd/roster get 1 2 --server http://localhost:1

`},
		{"TLS with a certificate of a CA", welcome{address: "a.example:1", tls: true}, `
  The page   https://a.example:1/
  curl       curl -H 'content-type: application/json' -d '{"userIDs":[1,2]}' https://a.example:1/MyService/User
  Python     pip install grpcio protobuf && PYTHONPATH=gen/python python3 -c "import grpc, api_pb2 as pb, api_pb2_grpc as rpc; print(rpc.MyServiceStub(grpc.secure_channel('a.example:1', grpc.ssl_channel_credentials())).User(pb.UserReq(userIDs=[1, 2])))"
  Go         go run ./cmd/roster get 1 2 --server https://a.example:1

`},
		{"mutual TLS with a certificate of a CA", welcome{address: "a.example:1", tls: true, clientCertificates: true}, `
  The page   https://a.example:1/
  curl       curl --cert client.pem --key client-key.pem -H 'content-type: application/json' -d '{"userIDs":[1,2]}' https://a.example:1/MyService/User
  Python     pip install grpcio protobuf && PYTHONPATH=gen/python python3 -c "import grpc, api_pb2 as pb, api_pb2_grpc as rpc; print(rpc.MyServiceStub(grpc.secure_channel('a.example:1', grpc.ssl_channel_credentials(None, open('client-key.pem', 'rb').read(), open('client.pem', 'rb').read()))).User(pb.UserReq(userIDs=[1, 2])))"
  Go         go run ./cmd/roster get 1 2 --server https://a.example:1 --cert client.pem --key client-key.pem

`},
		{"all at once", welcome{address: "localhost:1", tls: true, cert: "cert.pem", clientCertificates: true, tokens: "the tokens.json"}, `
  A token    export ROSTER_TOKEN=$(go run ./cmd/roster token create --role read --name me-$$ --tokens 'the tokens.json')
  The page   https://localhost:1/
  curl       curl --cacert cert.pem --cert client.pem --key client-key.pem -H "authorization: Bearer $ROSTER_TOKEN" -H 'content-type: application/json' -d '{"userIDs":[1,2]}' https://localhost:1/MyService/User
  Python     pip install grpcio protobuf && PYTHONPATH=gen/python python3 -c "import grpc, api_pb2 as pb, api_pb2_grpc as rpc; print(rpc.MyServiceStub(grpc.secure_channel('localhost:1', grpc.ssl_channel_credentials(open('cert.pem', 'rb').read(), open('client-key.pem', 'rb').read(), open('client.pem', 'rb').read()))).User(pb.UserReq(userIDs=[1, 2]), metadata=[('authorization', 'Bearer $ROSTER_TOKEN')]))"
  Go         go run ./cmd/roster get 1 2 --server https://localhost:1 --ca cert.pem --cert client.pem --key client-key.pem

`},
		{"a Unix socket", welcome{address: "unix:/run/roster.sock"}, `
  curl       curl --unix-socket /run/roster.sock -H 'content-type: application/json' -d '{"userIDs":[1,2]}' http://localhost/MyService/User
  Python     pip install grpcio protobuf && PYTHONPATH=gen/python python3 -c "import grpc, api_pb2 as pb, api_pb2_grpc as rpc; print(rpc.MyServiceStub(grpc.insecure_channel('unix:/run/roster.sock')).User(pb.UserReq(userIDs=[1, 2])))"
  Go         go run ./cmd/roster get 1 2 --server unix:/run/roster.sock

`},
		{"an abstract Unix socket with TLS", welcome{address: "unix-abstract:roster", tls: true, cert: "cert.pem"}, `
  curl       curl --abstract-unix-socket roster --cacert cert.pem -H 'content-type: application/json' -d '{"userIDs":[1,2]}' https://localhost/MyService/User
  Python     pip install grpcio protobuf && PYTHONPATH=gen/python python3 -c "import grpc, api_pb2 as pb, api_pb2_grpc as rpc; print(rpc.MyServiceStub(grpc.secure_channel('unix-abstract:roster', grpc.ssl_channel_credentials(open('cert.pem', 'rb').read()))).User(pb.UserReq(userIDs=[1, 2])))"
  Go         go run ./cmd/roster get 1 2 --server unix-abstract:roster --ca cert.pem

`},
	} {
		if got := test.welcome.String(); got != test.want {
			t.Errorf("%s:\n%s\nwant\n%s", test.name, got, test.want)
		}
	}
}

// Names of files that mean something to a shell or to Python stay what they are.
func TestWordsForTheShellAndPython(t *testing.T) {
	for _, name := range []string{"cert.pem", "my cert.pem", `it's "$HOME" \ !1 ` + "`id`", "[::1]:50051", "Zoë.pem", "a\tb", "=x", "~", "$(id)", `\x41`} {
		if got, err := exec.Command("sh", "-c", "printf %s "+shellWord(name)).Output(); err != nil || string(got) != name {
			t.Errorf("a shell reads %s as %q, want %q", shellWord(name), got, name)
		}
		literal, err := exec.Command("sh", "-c", `printf %s "`+pythonString(name)+`"`).Output()
		if err != nil || string(literal) != pythonString(name) {
			t.Errorf("a shell passes %s on as %s", pythonString(name), literal)
		}
		python, err := exec.LookPath("python3")
		if err != nil {
			continue
		}
		got, err := exec.Command(python, "-c", "import sys; sys.stdout.buffer.write("+pythonString(name)+".encode())").Output()
		if err != nil || string(got) != name {
			t.Errorf("Python reads %s as %q, want %q", pythonString(name), got, name)
		}
	}
	if word := shellWord("/etc/roster/cert.pem"); strings.Contains(word, "'") {
		t.Errorf("%s needs no quotes", word)
	}
}
