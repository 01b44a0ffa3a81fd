package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A reader follows a text as a person would who pastes its blocks into terminals.
type reader struct {
	t *testing.T
	// checkout is a copy of this repository in a folder of its own, and empty a folder with nothing
	// in it to begin with.
	checkout, empty string
	// address, upstream and handler stand for localhost:50051, localhost:50052 and localhost:8080, in the
	// blocks and in the programs of the copy, since a test must not depend on which ports are free.
	address, upstream, handler string
	environment                []string
	// printed is what the last block wrote to standard output.
	printed string
	servers []*terminal
}

func newReader(t *testing.T) *reader {
	t.Helper()
	packages := need(t, "ROSTER_E2E_PACKAGES")
	r := &reader{t: t, checkout: filepath.Join(t.TempDir(), "roster"), empty: t.TempDir(), address: freeAddress(t), upstream: freeAddress(t), handler: freeAddress(t)}
	r.copyCheckout()
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, "ROSTER_") && !strings.HasSuffix(strings.ToLower(name), "_proxy") && name != "MAKEFLAGS" && name != "VIRTUAL_ENV" {
			r.environment = append(r.environment, variable)
		}
	}
	r.environment = append(r.environment,
		"PATH="+filepath.Dir(grpcurl(t))+":"+os.Getenv("PATH"),
		"ROSTER_ADDR="+r.address, "ROSTER_SERVER=http://"+r.address, "no_proxy=*",
		// What the blocks install comes from the folder that make set up for them.
		"PIP_NO_INDEX=1", "PIP_FIND_LINKS="+filepath.Join(packages, "wheels"), "PIP_DISABLE_PIP_VERSION_CHECK=1",
		"npm_config_cache="+filepath.Join(packages, "npm"), "npm_config_prefer_offline=true", "npm_config_update_notifier=false",
	)
	t.Cleanup(func() { r.stopServers("") })
	return r
}

// freeAddress is an address of localhost at which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return "localhost:" + port
}

// contents is what is in a file of the repository.
func contents(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// git runs git in a folder and returns what it prints.
func git(t *testing.T, folder string, arguments ...string) string {
	t.Helper()
	command := exec.Command("git", arguments...)
	command.Dir = folder
	command.Env = append(os.Environ(), "GIT_AUTHOR_NAME=test", "GIT_AUTHOR_EMAIL=test@example.com",
		"GIT_COMMITTER_NAME=test", "GIT_COMMITTER_EMAIL=test@example.com")
	got := run(t, command)
	if got.code != 0 {
		t.Fatalf("git %s: %s", strings.Join(arguments, " "), got.stderr)
	}
	return got.stdout
}

// copyCheckout copies the files that git keeps, as they are now, into a repository of their own.
func (r *reader) copyCheckout() {
	r.t.Helper()
	names := git(r.t, root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for name := range strings.SplitSeq(strings.TrimRight(names, "\x00"), "\x00") {
		from, to := filepath.Join(root, name), filepath.Join(r.checkout, name)
		info, err := os.Stat(from)
		if os.IsNotExist(err) || err == nil && info.IsDir() {
			continue // deleted and not committed yet
		}
		if err != nil {
			r.t.Fatal(err)
		}
		text, err := os.ReadFile(from)
		if err != nil {
			r.t.Fatal(err)
		}
		if strings.HasPrefix(name, "examples/") {
			text = []byte(r.here(string(text)))
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(to, text, info.Mode().Perm()); err != nil {
			r.t.Fatal(err)
		}
	}
	git(r.t, r.checkout, "init", "--quiet")
	git(r.t, r.checkout, "add", "--all")
	git(r.t, r.checkout, "commit", "--quiet", "--message", "The checkout")
}

// here is a text with the addresses of this test.
func (r *reader) here(text string) string {
	_, port, _ := strings.Cut(r.handler, ":")
	return strings.NewReplacer("localhost:50051", r.address, "localhost:50052", r.upstream, "localhost:8080", r.handler,
		"http.server 8080", "http.server "+port).Replace(text)
}

var textParts = regexp.MustCompile("(?ms)^#+ ([^\n]+)$|^```[a-z]+\n(.*?)^```$")

// follow checks each block of a text by its line in the table.
func (r *reader) follow(name string, table []pasted) {
	r.t.Helper()
	section := ""
	for _, match := range textParts.FindAllStringSubmatch(string(contents(r.t, name)), -1) {
		if match[1] != "" {
			section = match[1]
			continue
		}
		block := match[2]
		if len(table) == 0 || table[0].section != section || !strings.HasPrefix(block, table[0].begins) {
			r.t.Fatalf("%s, %s: this block is not the next in the table of the test:\n%s", name, section, block)
		}
		r.t.Logf("%s, %s: %s", name, section, table[0].begins)
		table[0].check(block)
		table = table[1:]
		if r.t.Failed() {
			r.t.Fatalf("%s, %s: failed:\n%s", name, section, block)
		}
	}
	if len(table) > 0 {
		r.t.Errorf("%s has no block that begins with %q in %q", name, table[0].begins, table[0].section)
	}
}

// shell runs a text to its end, in the virtual environment of the folder if it made one before.
func (r *reader) shell(folder, text string) result {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Minute)
	defer cancel()
	if _, err := os.Stat(filepath.Join(folder, ".venv")); err == nil {
		text = ". .venv/bin/activate\n" + text
	}
	command := exec.CommandContext(ctx, "bash", "-ec", r.here(text))
	command.Dir, command.Env = folder, r.environment
	return run(r.t, command)
}

// run has a block run to its end and print each of want.
func (r *reader) run(folder string, want ...string) func(string) {
	return func(text string) {
		r.t.Helper()
		got := r.shell(folder, text)
		if got.code != 0 {
			r.t.Fatalf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
		}
		for _, piece := range want {
			if !strings.Contains(got.stdout, piece) {
				r.t.Errorf("it printed %q, without %q", got.stdout, piece)
			}
		}
		r.printed = got.stdout
	}
}

// then has one block checked by several checks.
func (r *reader) then(checks ...func(string)) func(string) {
	return func(text string) {
		for _, check := range checks {
			check(text)
		}
	}
}

// printedBefore has a block be the output of the one before.
func (r *reader) printedBefore(text string) {
	r.t.Helper()
	if strings.TrimSpace(text) != strings.TrimSpace(r.printed) {
		r.t.Errorf("the text says %s, and the command prints %s", text, r.printed)
	}
}

// is has a block be a file of the repository.
func (r *reader) is(name string) func(string) {
	return func(text string) {
		r.t.Helper()
		if want := string(contents(r.t, name)); text != want {
			r.t.Errorf("the block is not %s, which is\n%s", name, want)
		}
	}
}

// saveAs has a block be a file of examples/python, and saves it in the empty folder.
func (r *reader) saveAs(name string) func(string) {
	return r.then(r.is("examples/python/"+name), func(text string) {
		if err := os.WriteFile(filepath.Join(r.empty, name), []byte(r.here(text)), 0o644); err != nil {
			r.t.Fatal(err)
		}
	})
}

func (r *reader) hasFiles(names ...string) func(string) {
	return func(string) {
		r.t.Helper()
		for _, name := range names {
			if _, err := os.Stat(filepath.Join(r.empty, name)); err != nil {
				r.t.Error(err)
			}
		}
	}
}

// runWithTheCertificate runs a Python program in the empty folder, with cert.pem copied into it.
func (r *reader) runWithTheCertificate(text string) {
	r.t.Helper()
	r.saveAs("get_tls.py")(text)
	r.run(r.empty, leila, ruth)("cp " + filepath.Join(r.checkout, "cert.pem") + " . && python get_tls.py")
}

func (r *reader) refusesWithoutToken(string) {
	r.t.Helper()
	if got := r.shell(r.checkout, "go run ./cmd/roster get 1"); got.code == 0 || !strings.Contains(got.stderr, "token") {
		r.t.Errorf("without a token: exit code %d, %s%s", got.code, got.stdout, got.stderr)
	}
}

// leftNothingForGit checks that nothing that the blocks made would be committed by mistake: keys,
// tokens, stores, what was built and installed.
func (r *reader) leftNothingForGit() {
	r.t.Helper()
	r.stopServers("")
	if left := git(r.t, r.checkout, "status", "--porcelain"); left != "" {
		r.t.Errorf(".gitignore lets these be committed:\n%s", left)
	}
}

// A terminal is one in which a server runs until ctrl-C.
type terminal struct {
	command *exec.Cmd
	ended   chan struct{}

	mu     sync.Mutex
	output bytes.Buffer
}

func (s *terminal) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.Write(text)
}

func (s *terminal) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.String()
}

// serve has a block start a server, which must become ready.
func (r *reader) serve(folder string, ready func(said string) bool) func(string) {
	return func(text string) {
		r.t.Helper()
		s := &terminal{command: exec.Command("bash", "-ec", r.here(text)), ended: make(chan struct{})}
		s.command.Dir, s.command.Env = folder, r.environment
		s.command.Stdout, s.command.Stderr = s, s
		// What it starts is in its process group, which ctrl-C in a terminal goes to.
		s.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := s.command.Start(); err != nil {
			r.t.Fatal(err)
		}
		r.servers = append(r.servers, s)
		go func() {
			defer close(s.ended)
			s.command.Wait()
		}()
		for deadline := time.Now().Add(5 * time.Minute); !ready(s.said()); time.Sleep(100 * time.Millisecond) {
			select {
			case <-s.ended:
				r.t.Fatalf("it ended:\n%s", s.said())
			default:
			}
			if time.Now().After(deadline) {
				r.t.Fatalf("it is not ready after five minutes:\n%s", s.said())
			}
		}
	}
}

// stopServers presses ctrl-C in every terminal, and waits.
func (r *reader) stopServers(string) {
	r.t.Helper()
	for _, s := range slices.Backward(r.servers) {
		group := -s.command.Process.Pid
		syscall.Kill(group, syscall.SIGINT)
		select {
		case <-s.ended:
		case <-time.After(30 * time.Second):
			syscall.Kill(group, syscall.SIGKILL)
			<-s.ended
			r.t.Errorf("it does not end at ctrl-C:\n%s", s.said())
		}
	}
	r.servers = nil
}

func (r *reader) listens(address string) func(string) bool {
	return func(string) bool {
		connection, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		connection.Close()
		return true
	}
}

// answers tells whether Roster answers there.
func (r *reader) answers(scheme string) func(string) bool {
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	page := http.Client{Transport: transport, Timeout: 5 * time.Second}
	return func(string) bool {
		response, err := page.Get(scheme + "://" + r.address + "/api.proto")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		return err == nil && response.StatusCode == http.StatusOK
	}
}

var viteAddress = regexp.MustCompile(`http://localhost:\d+/`)

// showsInABrowser waits for the address that Vite prints, opens it in Chromium, and looks for each
// of want in the page as it is then.
func (r *reader) showsInABrowser(want ...string) func(string) bool {
	return func(said string) bool {
		r.t.Helper()
		// Vite prints the port in bold.
		said = regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(said, "")
		address := viteAddress.FindString(said)
		if address == "" {
			return false
		}
		r.showsAt(address, want...)
		return true
	}
}

// showsAt opens an address in Chromium, and looks for each of want in the page.
func (r *reader) showsAt(address string, want ...string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute)
	defer cancel()
	page := run(r.t, exec.CommandContext(ctx, chromium(r.t), "--headless", "--no-sandbox", "--disable-gpu", "--no-proxy-server",
		"--user-data-dir="+r.t.TempDir(), "--virtual-time-budget=10000", "--dump-dom", address))
	for _, piece := range want {
		if !strings.Contains(page.stdout, piece) {
			r.t.Errorf("%s does not show %q:\n%s", address, piece, page.stdout)
		}
	}
}

// chromium is the browser that make chromium installs.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	t.Fatal("there is no Chromium: run make chromium")
	return ""
}
