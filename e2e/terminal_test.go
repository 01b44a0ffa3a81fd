package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/roster/server/tlsfile/certtest"
)

// On a terminal the server prints lines to paste, and each of them works.
func TestTheLinesPrintedOnATerminalWork(t *testing.T) {
	t.Run("plain", func(t *testing.T) { theLinesPrintedWork(t, "") })
	cert, key := certtest.SelfSigned(t).Write(t, t.TempDir())
	t.Run("TLS", func(t *testing.T) { theLinesPrintedWork(t, " --tls-cert "+cert+" --tls-key "+key) })
	tokens := filepath.Join(t.TempDir(), "the tokens.json")
	createToken(t, tokens, "somebody", "read")
	t.Run("tokens", func(t *testing.T) { theLinesPrintedWork(t, " --tokens '"+tokens+"'") })
	t.Run("TLS and tokens", func(t *testing.T) {
		theLinesPrintedWork(t, " --tls-cert "+cert+" --tls-key "+key+" --tokens '"+tokens+"'")
	})
}

func theLinesPrintedWork(t *testing.T, flags string) {
	venv := need(t, "ROSTER_E2E_NEWEST")
	store := filepath.Join(t.TempDir(), "roster.db")
	// script(1) gives the server a terminal.
	server := exec.Command("script", "-qfec", binary+" serve --sample --addr localhost:0 --store "+store+flags, "/dev/null")
	output, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Wait()
	defer server.Process.Kill()
	defer stdin.Close()

	lines := make(map[string]string)
	entry := regexp.MustCompile(`^  (A token|The page|curl|Python|Go) +(.*?)\r?$`)
	scanner := bufio.NewScanner(output)
	expected := 4
	if strings.Contains(flags, "--tokens") {
		expected = 5
	}
	for len(lines) < expected && scanner.Scan() {
		if match := entry.FindStringSubmatch(scanner.Text()); match != nil {
			lines[match[1]] = match[2]
		}
	}
	if len(lines) < expected {
		t.Fatalf("got only %v", lines)
	}
	go func() {
		for scanner.Scan() {
		}
	}()
	page := lines["The page"]
	delete(lines, "The page")
	before := lines["A token"]
	delete(lines, "A token")
	lines["the page"] = "curl -sS " + page
	if strings.Contains(flags, "--tls") {
		lines["the page"] += " --insecure"
	}
	environment := append(os.Environ(), "PATH="+filepath.Join(venv, "bin")+":"+os.Getenv("PATH"), "no_proxy=localhost")
	if before != "" {
		shell := exec.Command("bash", "-c", before+" && echo $ROSTER_TOKEN")
		shell.Dir = root
		got := run(t, shell)
		if got.code != 0 {
			t.Fatalf("%s\nexit %d: %s", before, got.code, got.stderr)
		}
		environment = append(environment, "ROSTER_TOKEN="+strings.TrimSpace(got.stdout))
		// The server has it within a second.
		for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(50 * time.Millisecond) {
			shell := exec.Command("bash", "-c", lines["curl"])
			shell.Env = environment
			if strings.Contains(run(t, shell).stdout, "Leila Dubois") {
				break
			}
		}
	}
	for name, line := range lines {
		want := "Leila Dubois"
		if name == "the page" {
			want = "<title>Roster"
		}
		shell := exec.Command("bash", "-c", line)
		shell.Dir = root
		shell.Env = environment
		if got := run(t, shell); got.code != 0 || !strings.Contains(got.stdout, want) {
			t.Errorf("%s: %s\nexit %d: %s%s", name, line, got.code, got.stdout, got.stderr)
		}
	}
}

func TestVersionHelpAndCompletion(t *testing.T) {
	for arguments, want := range map[string]string{
		"version":           "roster ",
		"help":              "ROSTER_MAX_BATCH",
		"":                  "Available Commands",
		"serve --help":      "--drain-timeout",
		"completion bash":   "__start_roster",
		"completion zsh":    "#compdef roster",
		"import --help":     "--on-bad-row skip",
		"get --help":        "--protocol",
		"health --help":     "--server",
		"completion fish":   "roster",
		"help import":       "NDJSON",
		"completion -h":     "bash",
		"completion --help": "zsh",
		"--version":         "roster ",
		"help token create": "--certificate",
	} {
		if got := roster(t, strings.Fields(arguments)...); got.code != 0 || !strings.Contains(got.stdout, want) {
			t.Errorf("roster %s: exit %d, want %q in\n%s%s", arguments, got.code, want, got.stdout, got.stderr)
		}
	}
	for arguments, want := range map[string]string{
		"serv":              `no command "serv": did you mean "serve"?`,
		"sevre":             `no command "sevre": did you mean "serve"?`,
		"token lsit":        `no command "lsit": did you mean "list"?`,
		"serve --max-bacth": "unknown flag: --max-bacth: did you mean --max-batch?",
		"help nope":         `no command "nope"`,
		"help token nope":   `no command "nope"`,
		"help sevre":        `no command "sevre": did you mean "serve"?`,
		"completion nope":   `no command "nope"`,
		"get":               "id",
		"get one":           `"one"`,
		"get 1 --timeout x": "timeout",
		"health now":        "now",
		"import":            "import takes one FILE, got 0",
	} {
		if got := roster(t, strings.Fields(arguments)...); got.code != 2 || !strings.Contains(got.stderr, want) {
			t.Errorf("roster %s: exit %d, want 2 and %q in\n%s%s", arguments, got.code, want, got.stdout, got.stderr)
		}
	}
}
