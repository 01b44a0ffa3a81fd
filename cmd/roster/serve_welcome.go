package main

import (
	"fmt"
	"strings"

	"example.com/roster/internal/unixaddr"
)

// A welcome is what a person who starts the server by hand can do next: lines that work as pasted,
// those with "go run" and Python in a checkout of this repository.
type welcome struct {
	address            string // host:port to call, or unix:PATH
	tls                bool
	cert               string // certificate file that callers are told to trust; empty if it is not self-signed
	clientCertificates bool   // callers present one: client.pem and client-key.pem stand for theirs
	tokens             string // token file, to which a caller's token is added; empty if calls need none

	procedure, body string // what curl calls; empty is MyService.User
	writes          bool   // the call needs a token of the role write
}

// The parts of lines that stand for what the caller has.
const (
	clientCert = "client.pem"
	clientKey  = "client-key.pem"
)

func (w welcome) String() string {
	var lines strings.Builder
	line := func(name, text string) { fmt.Fprintf(&lines, "  %-10s %s\n", name, text) }
	lines.WriteString("\n")
	if w.tokens != "" {
		line("A token", w.createToken())
	}
	if w.socket() == "" { // no browser calls a Unix socket
		line("The page", w.url()+"/")
	}
	line("curl", w.curl())
	line("Python", w.python())
	line("Go", w.goRun())
	lines.WriteString("\n")
	return lines.String()
}

// socket returns the path of the Unix socket that is called, empty if it is none. curl takes an
// abstract one by another flag.
func (w welcome) socket() string {
	path, _, _ := unixaddr.Parse(w.address)
	return path
}

func (w welcome) url() string {
	if w.socket() != "" {
		w.address = "localhost" // what stands in the URL beside a socket
	}
	if w.tls {
		return "https://" + w.address
	}
	return "http://" + w.address
}

// createToken has the caller's token in the environment, where the other lines expect it.
func (w welcome) createToken() string {
	role := "read"
	if w.writes {
		role = "write"
	}
	return "export ROSTER_TOKEN=$(go run ./cmd/roster token create --role " + role + " --name me-$$ --tokens " + shellWord(w.tokens) + ")"
}

func (w welcome) curl() string {
	words := []string{"curl"}
	if name, abstract := strings.CutPrefix(w.socket(), "@"); abstract {
		words = append(words, "--abstract-unix-socket", shellWord(name))
	} else if name != "" {
		words = append(words, "--unix-socket", shellWord(name))
	}
	if w.cert != "" {
		words = append(words, "--cacert", shellWord(w.cert))
	}
	if w.clientCertificates {
		words = append(words, "--cert", clientCert, "--key", clientKey)
	}
	if w.tokens != "" {
		words = append(words, `-H "authorization: Bearer $ROSTER_TOKEN"`)
	}
	procedure, body := w.procedure, w.body
	if procedure == "" {
		procedure, body = "/MyService/User", `{"userIDs":[1,2]}`
	}
	words = append(words, "-H 'content-type: application/json' -d", shellWord(body), shellWord(w.url()+procedure))
	return strings.Join(words, " ")
}

// python is a program between double quotes of the shell, which puts the token in.
func (w welcome) python() string {
	open := func(file string) string { return "open(" + pythonString(file) + ", 'rb').read()" }
	channel := "grpc.insecure_channel(" + pythonString(w.address) + ")"
	if w.tls {
		var files []string
		if w.cert != "" {
			files = append(files, open(w.cert))
		}
		if w.clientCertificates {
			if w.cert == "" {
				files = append(files, "None")
			}
			files = append(files, open(clientKey), open(clientCert))
		}
		channel = "grpc.secure_channel(" + pythonString(w.address) + ", grpc.ssl_channel_credentials(" + strings.Join(files, ", ") + "))"
	}
	metadata := ""
	if w.tokens != "" {
		metadata = ", metadata=[('authorization', 'Bearer $ROSTER_TOKEN')]"
	}
	return `pip install grpcio protobuf && PYTHONPATH=gen/python python3 -c "import grpc, api_pb2 as pb, api_pb2_grpc as rpc; ` +
		"print(rpc.MyServiceStub(" + channel + ").User(pb.UserReq(userIDs=[1, 2])" + metadata + `))"`
}

// goRun finds the token in the environment by itself.
func (w welcome) goRun() string {
	server := w.url()
	if w.socket() != "" {
		server = w.address
	}
	words := []string{"go run ./cmd/roster get 1 2 --server", shellWord(server)}
	if w.cert != "" {
		words = append(words, "--ca", shellWord(w.cert))
	}
	if w.clientCertificates {
		words = append(words, "--cert", clientCert, "--key", clientKey)
	}
	return strings.Join(words, " ")
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// shellWord returns text as one word of a POSIX shell, quoted only if it has to be.
func shellWord(text string) string {
	if text != "" && strings.Trim(text, letters+"/:._-+,@%") == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// pythonString returns text as a string literal of Python that a shell leaves alone between double
// quotes: what means something to either of them is escaped.
func pythonString(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r < 0x80 && !strings.ContainsRune(letters+"/:._-+,=@%[]() ", r) {
			fmt.Fprintf(&b, `\x%02x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return "'" + b.String() + "'"
}
