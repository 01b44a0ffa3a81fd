package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the blocks of a text are checked for. Each block of README.md has a line in the table below,
// in the order of the text; a block without a line is a failure that names it.
type pasted struct {
	section string
	// begins is how the block begins, so that the table can be read beside the text.
	begins string
	check  func(text string)
}

const (
	leila = "Leila Dubois"
	ruth  = "Ruth Chen"
)

// Everything that the README has in a block works as pasted, in the order of the text: in a copy of
// the checkout, or in an empty folder where it says that this is enough.
func TestTheREADMEWorksAsPasted(t *testing.T) {
	r := newReader(t)
	r.follow("README.md", []pasted{
		{"Roster", "make run", r.serve(r.checkout, r.answers("http"))},
		{"Roster", "curl -H", r.run(r.empty, leila, ruth)},
		{"Roster", `{"message"`, r.printedBefore},

		{"Python", "python3 -m venv", r.run(r.empty)},
		{"Python", "# pip install", r.saveAs("get.py")},
		{"Python", "python get.py", r.run(r.empty, leila, ruth)},
		{"Go", "(cd examples/go", r.run(r.checkout, leila, ruth)},
		{"Go", "// This program", r.is("examples/go/main.go")},
		{"Go", "go run ./cmd/roster get", r.run(r.checkout, leila, ruth)},
		{"Browser", "npm ci", r.serve(r.checkout, r.showsInABrowser(leila, ruth))},
		{"Browser", "import { createClient", r.is("examples/web/src/main.ts")},
		{"Anything else", "grpcurl -plaintext localhost", r.run(r.empty, "roster.v1.DirectoryService", "99999", "SERVING")},
		{"Anything else", "curl --create-dirs", r.then(r.run(r.empty), r.hasFiles("roster/v1/directory_pb2_grpc.py"))},
		{"Anything else", "# Looks users up", r.then(r.is("examples/python/get_v1.py"), r.saveAs("get_v1.py"))},
		{"Anything else", "python get_v1.py", r.run(r.empty, "1 "+leila, "2 "+ruth, "nobody has 99999")},

		{"Your own gRPC servers", "go run ./cmd/roster bridge", r.then(r.stopServers, r.jobs, r.serve(r.checkout, learnt))},
		{"Your own gRPC servers", "curl -H", r.run(r.empty, `"name":"report","state":"STATE_RUNNING"`)},
		{"Your own gRPC servers", "const reply = await fetch", r.isPartOf("examples/bridge/page.html")},

		{"Your own users", "go run ./cmd/roster import", r.then(r.stopServers, r.run(r.checkout))},
		{"Your own users", "go run ./cmd/roster serve", r.serve(r.checkout, r.answers("http"))},

		{"Who may call", "(umask 077", r.run(r.checkout)},
		{"Who may call", "go run ./cmd/roster serve", r.then(r.stopServers, r.serve(r.checkout, r.answers("http")))},
		{"Who may call", "go run ./cmd/roster get", r.then(r.refusesWithoutToken, r.run(r.checkout, leila, `"name":"`+ruth))},

		{"TLS", "openssl req", r.then(r.run(r.checkout), r.certificateIsAServers)},
		{"TLS", "go run ./cmd/roster serve", r.then(r.stopServers, r.serve(r.checkout, r.answers("https")))},
		{"TLS", "curl --cacert", r.run(r.checkout, `"name":"`+leila, leila+"  37", leila+" 37")},
		{"TLS", "# Looks users up", r.then(r.is("examples/python/get_tls.py"), r.runWithTheCertificate)},

		{"The HTTP/2 engine", "// This program", r.is("examples/go/http2/main.go")},
		{"The HTTP/2 engine", "(cd examples/go", r.serve(r.checkout, r.listens(r.handler))},
		{"The HTTP/2 engine", "curl --http2", r.run(r.empty, "hello over HTTP/2.0")},

		// This test is a part of it.
		{"Work on it", "make test", func(string) {}},
	})
	r.leftNothingForGit()
}

// The READMEs of the examples work as pasted in the folder that they are in.
func TestTheREADMEsOfTheExamplesWorkAsPasted(t *testing.T) {
	r := newReader(t)
	r.serve(r.checkout, r.answers("http"))("make run")
	r.follow("examples/python/README.md", []pasted{
		{"Programs that call Roster from Python", "python3 -m venv", r.run(filepath.Join(r.checkout, "examples/python"), leila, ruth)},
	})
	r.follow("examples/web/README.md", []pasted{
		{"A page that calls Roster", "npm ci", r.serve(filepath.Join(r.checkout, "examples/web"), r.showsInABrowser(leila, ruth))},
	})
	r.stopServers("")
	bridge := filepath.Join(r.checkout, "examples/bridge")
	const title = "A Python gRPC server behind the bridge"
	r.follow("examples/bridge/README.md", []pasted{
		{title, "python3 -m venv", r.serve(bridge, started)},
		{title, "go run ../../cmd/roster bridge", r.serve(bridge, learnt)},
		{title, "curl -H", r.run(bridge, `"name":"report","state":"STATE_RUNNING"`, `"id":"1"`)},
		{title, "python3 -m http.server", r.then(r.serve(bridge, r.listens(r.handler)), func(string) {
			r.showsAt("http://"+r.handler+"/page.html", `"name": "from a browser"`)
		})},
	})
	if got := r.shell(filepath.Join(r.checkout, "examples/web"), "npm run check"); got.code != 0 {
		t.Errorf("the types of examples/web: %s%s", got.stdout, got.stderr)
	}
	if got := r.shell(filepath.Join(r.checkout, "examples/go"), "go vet ./... && go mod verify && go mod tidy -diff"); got.code != 0 {
		t.Errorf("examples/go: %s%s", got.stdout, got.stderr)
	}
	r.leftNothingForGit()
}

// started tells whether the server of examples/bridge serves, and learnt whether the bridge has its services.
func started(said string) bool { return strings.Contains(said, "serving jobs.v1.JobService on ") }
func learnt(said string) bool  { return strings.Contains(said, "bridge: mounted") }

// jobs starts the server of examples/bridge as its README says.
func (r *reader) jobs(string) {
	r.t.Helper()
	for _, match := range textParts.FindAllStringSubmatch(string(contents(r.t, "examples/bridge/README.md")), -1) {
		if strings.HasPrefix(match[2], "python3 -m venv") {
			r.serve(filepath.Join(r.checkout, "examples/bridge"), started)(match[2])
			return
		}
	}
	r.t.Fatal("examples/bridge/README.md does not say how its server is started")
}

// isPartOf has a block be a part of a file of the repository, in which it may be indented.
func (r *reader) isPartOf(name string) func(string) {
	return func(text string) {
		r.t.Helper()
		if whole := regexp.MustCompile(`(?m)^ +`).ReplaceAllString(string(contents(r.t, name)), ""); !strings.Contains(whole, regexp.MustCompile(`(?m)^ +`).ReplaceAllString(text, "")) {
			r.t.Errorf("the block is no part of %s", name)
		}
	}
}

// examples/web has a copy, so that the folder can be copied and used by itself.
func TestTheExampleHasTheGeneratedCode(t *testing.T) {
	if !bytes.Equal(contents(t, "examples/web/src/api_pb.ts"), contents(t, "gen/es/api_pb.ts")) {
		t.Error("examples/web/src/api_pb.ts is not gen/es/api_pb.ts: copy it again")
	}
}

// Nothing that the repository keeps is hidden by .gitignore, where a later change of it would be
// missed.
func TestNoFileOfTheRepositoryIsIgnored(t *testing.T) {
	if hidden := git(t, root, "ls-files", "--cached", "--ignored", "--exclude-standard"); hidden != "" {
		t.Errorf("these files are tracked and ignored:\n%s", hidden)
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	command = regexp.MustCompile("(?m)(?:^|`)make ([a-z0-9-]+)")
	fenced  = regexp.MustCompile("(?ms)^```.*?^```$")
)

// Every link inside the repository leads to a file, and its anchor to a heading of that file. Every
// make target that is named exists.
func TestTheLinksOfTheTextsLeadSomewhere(t *testing.T) {
	makefile := string(contents(t, "Makefile"))
	for _, name := range []string{
		"README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/design.md", "docs/operations.md",
		"docs/bridge.md", "examples/bridge/README.md", "examples/go/README.md", "examples/python/README.md", "examples/web/README.md", "python/README.md",
	} {
		text := string(contents(t, name))
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(match[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := filepath.Join(filepath.Dir(name), target)
			if target == "" {
				path = name
			}
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s links to %s: %v", name, match[1], err)
			} else if anchor != "" && !hasAnchor(string(contents(t, path)), anchor) {
				t.Errorf("%s links to %s: there is no such heading", name, match[1])
			}
		}
		for _, match := range command.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(makefile, "\n"+match[1]+":") {
				t.Errorf("%s names make %s, which the Makefile does not have", name, match[1])
			}
		}
	}
}

// hasAnchor tells whether a heading of a text has the anchor, as GitHub makes anchors.
func hasAnchor(text, anchor string) bool {
	for _, match := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		made := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z':
				return r
			}
			return -1
		}, strings.ToLower(match[1]))
		if made == anchor {
			return true
		}
	}
	return false
}

// certificateIsAServers checks what strict TLS libraries check: crypto/tls and OpenSSL take a
// certificate of an authority from a server, and rustls does not.
func (r *reader) certificateIsAServers(string) {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.checkout, "cert.pem"))
	if err != nil {
		r.t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		r.t.Fatalf("cert.pem is no PEM: %s", text)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		r.t.Fatal(err)
	}
	if certificate.IsCA || !certificate.BasicConstraintsValid {
		r.t.Errorf("the certificate is an authority's: %v, says so: %v; want one of a server", certificate.IsCA, certificate.BasicConstraintsValid)
	}
}
