package e2e

import (
	"debug/elf"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// install runs `make install` into a folder and returns it.
func install(t *testing.T) (prefix string) {
	t.Helper()
	prefix = t.TempDir()
	install := exec.Command("make", "install", "PREFIX="+prefix, "VERSION=v1.2.3-test")
	install.Dir = root
	if got := run(t, install); got.code != 0 {
		t.Fatalf("make install: exit %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	return prefix
}

func TestInstall(t *testing.T) {
	prefix := install(t)
	installed := filepath.Join(prefix, "bin", "roster")
	if got := run(t, exec.Command(installed, "version")); !strings.HasPrefix(got.stdout, "roster v1.2.3-test ") {
		t.Errorf("version = %q, want the one that the build was given", got.stdout)
	}

	program, err := elf.Open(installed)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	for _, part := range program.Progs {
		if part.Type == elf.PT_INTERP {
			t.Error("the binary asks for a dynamic loader, so it is not static")
		}
	}

	for _, page := range []string{"roster.1", "roster-serve.1", "roster-get.1", "roster-import.1", "roster-backup.1", "roster-restore.1", "roster-check.1", "roster-bridge.1"} {
		text, err := os.ReadFile(filepath.Join(prefix, "share/man/man1", page))
		if err != nil || !strings.Contains(string(text), ".SH SYNOPSIS") {
			t.Errorf("man page %s: %v, %.60q", page, err, text)
		}
		// Each heading stands before the flags of its group.
		if page == "roster-serve.1" && !regexp.MustCompile(`(?s)\.SS TLS\n.*--tls-key.*\.SS Access\n.*--tokens.*\.SS Limits\n`).Match(text) {
			t.Errorf("man page %s has no groups of flags:\n%s", page, text)
		}
	}
	for _, completion := range []string{
		"bash-completion/completions/roster", "zsh/site-functions/_roster", "fish/vendor_completions.d/roster.fish",
	} {
		if text, err := os.ReadFile(filepath.Join(prefix, "share", completion)); err != nil || !strings.Contains(string(text), "roster") {
			t.Errorf("completion %s: %v, %.60q", completion, err, text)
		}
	}
}

// What a shell asks for when tab is pressed.
func TestCompletionOfChoices(t *testing.T) {
	for line, want := range map[string]string{
		"get --protocol ":      "grpc\ngrpcweb\nconnect\n",
		"health --protocol ":   "grpc\ngrpcweb\nconnect\n",
		"serve --http2 ":       "fast\nstd\n",
		"bridge --http2 ":      "fast\nstd\n",
		"serve --log-level ":   "debug\ninfo\nwarn\nerror\n",
		"import --on-bad-row ": "refuse\nskip\n",
	} {
		arguments := append([]string{"__complete"}, strings.SplitAfter(strings.TrimSuffix(line, " "), " ")...)
		for i := range arguments {
			arguments[i] = strings.TrimSpace(arguments[i])
		}
		got := roster(t, append(arguments, "")...)
		if !strings.HasPrefix(got.stdout, want) {
			t.Errorf("%s: completed with %q, want %q", line, got.stdout, want)
		}
	}
}

// The image has nothing but the binary, and nobody is root in it. This runs
// the Dockerfile's last stage as far as that goes without Docker: in an empty
// root, as its user, with its environment, its command and its health check.
func TestTheImageHoldsWhatTheBinaryNeeds(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may change the root folder of a process")
	}
	text, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	_, image, ok := strings.Cut(string(text), "\nFROM scratch\n")
	if !ok {
		t.Fatal("the Dockerfile has no stage from scratch")
	}
	find := func(pattern string) string {
		t.Helper()
		found := regexp.MustCompile(`(?m)^` + pattern + `$`).FindStringSubmatch(image)
		if found == nil {
			t.Fatalf("the Dockerfile has no line %s", pattern)
		}
		return found[1]
	}
	if user := find(`USER (.*)`); user != "65532:65532" {
		t.Errorf("USER %s, want 65532:65532", user)
	}
	environment := strings.Fields(find(`ENV (.*)`))

	empty := t.TempDir()
	for folder := empty; folder != os.TempDir() && folder != "/"; folder = filepath.Dir(folder) {
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.ReadFile(filepath.Join(install(t), "bin", "roster"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(empty, "roster"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(empty, "data")
	if err := os.Mkdir(data, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(data, 65532, 65532); err != nil {
		t.Fatal(err)
	}
	inside := func(arguments ...string) *exec.Cmd {
		command := exec.Command("/roster", arguments...)
		command.Dir = "/"
		command.Env = environment
		command.SysProcAttr = &syscall.SysProcAttr{
			Chroot:     empty,
			Credential: &syscall.Credential{Uid: 65532, Gid: 65532},
		}
		return command
	}

	// On a port that is free, which the commands after it then call.
	server := start(t, inside("serve", "--sample", "--addr", ":0"))
	port := server.line(func(line string) string {
		var entry struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving" {
			return entry.Address[strings.LastIndex(entry.Address, ":")+1:]
		}
		return ""
	})
	for i := range environment {
		environment[i] = strings.ReplaceAll(environment[i], "50051", port)
	}
	check := strings.Split(strings.ReplaceAll(find(`HEALTHCHECK .* CMD \["/roster", (.*)\]`), `"`, ""), ", ")
	if got := run(t, inside(check...)); got.code != 0 {
		t.Errorf("the health check exits with %d: %s%s", got.code, got.stdout, got.stderr)
	}
	if got := run(t, inside("get", "1")); got.code != 0 || !strings.Contains(got.stdout, sample(t)[1].Name) {
		t.Errorf("get 1: exit %d, %s%s", got.code, got.stdout, got.stderr)
	}
	// A backup, and its way back, as docs/operations.md has them: on the volume.
	if got := run(t, inside("backup", "/data/backup.db")); got.code != 0 {
		t.Errorf("backup: exit %d, %s", got.code, got.stderr)
	}
	if code := server.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("serve exits with %d at SIGTERM, want 0", code)
	}
	if got := run(t, inside("restore", "/data/backup.db")); got.code != 0 || !strings.Contains(got.stderr, "is kept as /data/roster.db.before-") {
		t.Errorf("restore: exit %d, %s", got.code, got.stderr)
	}
	if got := run(t, inside(check...)); got.code != 1 {
		t.Errorf("the health check exits with %d when nothing serves, want 1", got.code)
	}
}

// What the README makes in a checkout, keys and tokens above all, is in no layer of an image.
func TestNoSecretOfTheCheckoutGetsIntoTheImage(t *testing.T) {
	_, secrets, found := strings.Cut(string(contents(t, ".gitignore")), "# What the README makes")
	if !found {
		t.Fatal(".gitignore does not say what the README makes")
	}
	ignored := strings.Split(string(contents(t, ".dockerignore")), "\n")
	for _, pattern := range strings.Split(strings.TrimSpace(secrets), "\n")[1:] {
		if !slices.Contains(ignored, "**/"+pattern) {
			t.Errorf(".dockerignore lacks **/%s, which .gitignore has", pattern)
		}
	}
}
