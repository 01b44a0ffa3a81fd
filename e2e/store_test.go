package e2e

import (
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite" // another program that has the file open

	"example.com/roster/client"
)

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestServeSaysWhatIsWrongWithItsStoreOrAddress(t *testing.T) {
	dir := t.TempDir()
	text := write(t, filepath.Join(dir, "notes.txt"), strings.Repeat("Remember the milk.\n", 100))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	tests := []struct {
		name      string
		arguments []string
		code      int
		want      string
	}{
		{"a directory", []string{"--store", dir}, 1, "is a directory: give the name of a file in it, such as " + dir + "/roster.db"},
		{"not a database", []string{"--store", text}, 1, "notes.txt is not a SQLite database (nor empty): give another file name"},
		{"no such directory", []string{"--store", dir + "/no/roster.db"}, 1, "there is no directory " + dir + "/no: create it first"},
		{"PostgreSQL", []string{"--store", "postgres://me:secret@localhost/x"}, 2, "--store postgres://me:xxxxx@localhost/x: this version has only the SQLite store"},
		{"a port in use", []string{"--addr", taken.Addr().String()}, 1, taken.Addr().String() + " is in use by another program: stop that one, or choose another port"},
		{"no port", []string{"--addr", "localhost"}, 2, `--addr "localhost": want host:port, such as localhost:50051`},
		{"a batch of none", []string{"--max-batch", "0"}, 2, "--max-batch 0: must be at least 1"},
		{"a number that is none", []string{"--max-batch", "many"}, 2, `--max-batch many: must be a whole number`},
		{"an unknown flag", []string{"--prot", "1"}, 2, "unknown flag: --prot"},
		{"an argument", []string{"now"}, 2, `roster serve takes no arguments, got "now"`},
		{"a log format", []string{"--log-format", "xml"}, 2, `--log-format "xml": want text or json`},
		{"a log level", []string{"--log-level", "loud"}, 2, `--log-level "loud": want debug, info, warn or error`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			arguments := []string{"serve", "--addr", "127.0.0.1:0", "--store", filepath.Join(t.TempDir(), "roster.db")}
			got := roster(t, append(arguments, test.arguments...)...)
			if got.code != test.code || !strings.Contains(got.stderr, test.want) || got.stdout != "" {
				t.Errorf("exit %d, want %d\n%s%s\nwant %s", got.code, test.code, got.stdout, got.stderr, test.want)
			}
		})
	}
	if content, _ := os.ReadFile(text); !strings.HasPrefix(string(content), "Remember the milk.") {
		t.Error("the text file was written to")
	}
}

func TestEnvironmentVariablesAreFlags(t *testing.T) {
	command := exec.Command(binary, "serve")
	command.Env = append(os.Environ(), "ROSTER_ADDR=127.0.0.1:0", "ROSTER_MAX_BATCH=few")
	got := run(t, command)
	if got.code != 2 || !strings.Contains(got.stderr, `ROSTER_MAX_BATCH="few" in the environment`) {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

// The file mode forbids writing. It does not bind root, so the test runs as another user.
func TestAReadOnlyStore(t *testing.T) {
	dir := t.TempDir()
	store := filepath.Join(dir, "roster.db")
	if got := roster(t, "import", "--store", store, filepath.Join(root, "examples", "users.csv")); got.code != 0 {
		t.Fatal(got.stderr)
	}
	for path, mode := range map[string]os.FileMode{store: 0o444, dir: 0o555, filepath.Dir(dir): 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	defer os.Chmod(dir, 0o755)
	command := exec.Command(binary, "import", "--store", store, "--format", "csv", "-")
	command.Stdin = strings.NewReader("id,name,age,email\n1,Ann,30,a@b\n")
	if os.Getuid() == 0 {
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	got := run(t, command)
	if got.code != 1 || !strings.Contains(got.stderr, store) || !strings.Contains(got.stderr, "must be") ||
		!strings.Contains(got.stderr, "writable by this user") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

func TestAStoreLockedByAnotherProgram(t *testing.T) {
	store := filepath.Join(t.TempDir(), "roster.db")
	users := filepath.Join(root, "examples", "users.csv")
	if got := roster(t, "import", "--store", store, users); got.code != 0 {
		t.Fatal(got.stderr)
	}
	other, err := sql.Open("sqlite", store)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.SetMaxOpenConns(1)
	if _, err := other.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	if got := roster(t, "import", "--store", store, users); got.code != 1 ||
		!strings.Contains(got.stderr, "another program has locked "+store+" for longer than 5s") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

// millionRows writes a file of a million users.
func millionRows(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	text.WriteString("id,name,age,email\n")
	for i := range 1_000_000 {
		fmt.Fprintf(&text, "%d,User Number %d,%d,user%d@example.com\n", i, i, i%100, i)
	}
	return write(t, filepath.Join(t.TempDir(), "million.csv"), text.String())
}

// A million rows beside a running server: in bounded memory, its callers never
// held up, answered as one within a second of its end.
func TestImportBesideAServer(t *testing.T) {
	file := millionRows(t)
	store := filepath.Join(t.TempDir(), "roster.db")
	_, address := serve(t, "--store", store)
	c, err := client.New(address, client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	found := func(ids ...int32) int {
		t.Helper()
		began := time.Now()
		users, err := c.Users(t.Context(), ids)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("a look-up took %v", took)
		}
		return len(users)
	}

	// Interrupted: nothing is there afterwards.
	interrupted := start(t, exec.Command(binary, "import", "--store", store, file))
	for written, deadline := int64(0), time.Now().Add(time.Minute); written < 4<<20; { // then it is well under way
		if n := found(0, 1, 2); n != 0 {
			t.Fatalf("%d users of an import under way", n)
		}
		if log, err := os.Stat(store + "-wal"); err == nil {
			written = log.Size()
		}
		if time.Now().After(deadline) {
			t.Fatalf("the import has not begun to write: %s", interrupted.log())
		}
	}
	if code := interrupted.stop(os.Interrupt); code != 1 || !strings.Contains(interrupted.log(), "million.csv: interrupted; nothing was imported") {
		t.Fatalf("exit %d: %s", code, interrupted.log())
	}
	if n := found(0, 1, 2); n != 0 {
		t.Fatalf("%d users of an interrupted import", n)
	}

	// Done.
	command := exec.Command(binary, "import", "--store", store, file)
	running := start(t, command)
	peak := 0
	for ended := false; !ended; {
		peak = max(peak, peakMemory(command.Process.Pid))
		select {
		case <-running.exited:
			ended = true
		default:
			if n := found(0, 999_999); n != 0 && n != 2 {
				t.Fatalf("%d users of 2: half an import was seen", n)
			}
		}
	}
	if !command.ProcessState.Success() {
		t.Fatal(running.log())
	}
	for deadline := time.Now().Add(30 * time.Second); found(0, 999_999) != 2; { // on an idle machine, within a second
		if time.Now().After(deadline) {
			t.Fatal("the server does not answer the import after its end")
		}
	}
	if peak == 0 || peak > 100<<10 {
		t.Errorf("the import took %d KiB of memory", peak)
	}
}

// peakMemory is the most memory that a process had so far, in KiB. (What the
// kernel tells at its end counts this test's own too, from before the exec.)
func peakMemory(pid int) (kib int) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	if _, rest, found := strings.Cut(string(status), "VmHWM:"); found {
		fmt.Sscan(rest, &kib)
	}
	return kib
}

// Two servers on one file, as in a handover.
func TestTwoServersOnOneStore(t *testing.T) {
	store := filepath.Join(t.TempDir(), "roster.db")
	first, _ := serve(t, "--store", store)
	_, address := serve(t, "--store", store)
	if got := roster(t, "get", "1", "--server", "http://"+address); got.code != 1 || !strings.Contains(got.stderr, "not found: 1\n") {
		t.Errorf("an empty store: %s%s", got.stdout, got.stderr)
	}
	if code := first.stop(terminate); code != 0 {
		t.Errorf("the first one exited %d", code)
	}
	if got := roster(t, "import", "--store", store, filepath.Join(root, "examples", "users.csv")); got.code != 0 {
		t.Fatal(got.stderr)
	}
	time.Sleep(time.Second)
	if got := roster(t, "get", "1", "--server", "http://"+address); !strings.Contains(got.stdout, "Leila Dubois") {
		t.Errorf("a second after the import: %s%s", got.stdout, got.stderr)
	}
}

func TestTheSampleIsLoadedIntoAnEmptyStoreOnly(t *testing.T) {
	store := filepath.Join(t.TempDir(), "roster.db")
	file := write(t, filepath.Join(t.TempDir(), "one.csv"), "id,name,age,email\n1,Only One,30,\n")
	if got := roster(t, "import", "--store", store, file); got.code != 0 {
		t.Fatal(got.stderr)
	}
	_, address := serve(t, "--store", store, "--sample")
	if got := roster(t, "get", "1", "2", "--server", "http://"+address); !strings.Contains(got.stdout, "Only One") || strings.Contains(got.stdout, "Ruth") {
		t.Errorf("%s%s", got.stdout, got.stderr)
	}
}
