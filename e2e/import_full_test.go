package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// An import for whose rows the server's folder for temporary files has no room, be it for the first ones or the last
// ones, says so, and not that the store does not answer. Nothing is imported, and the next import works.
func TestAnImportIntoAFullFolder(t *testing.T) {
	temporary := t.TempDir()
	command := exec.Command(binary, "serve", "--addr", "localhost:0", "--log-format", "json", "--store", filepath.Join(t.TempDir(), "roster.db"))
	command.Env = append(os.Environ(), "TMPDIR="+temporary)
	p := start(t, command)
	url := "http://" + p.line(servingAt)
	for _, rows := range []int{100, 100_000} { // fewer than are written at once, and more
		file := filepath.Join(t.TempDir(), "users.csv")
		if err := os.WriteFile(file, []byte(manyUsers(rows)), 0o600); err != nil {
			t.Fatal(err)
		}
		before := onServer(t, url, 0, "export").stdout
		restore := fullDisk(t, command.Process.Pid)
		failed := onServer(t, url, 1, "import", file)
		restore()
		if !strings.Contains(failed.stderr, "UNAVAILABLE") || !strings.Contains(failed.stderr,
			"this server cannot keep the rows of the import until all have come, since its folder for temporary files is full or cannot be written: nothing was imported") {
			t.Errorf("%d rows: %s", rows, failed.stderr)
		}
		if !strings.Contains(p.log(), "the rows of an import cannot be kept") || !strings.Contains(p.log(), "file too large") {
			t.Errorf("the log does not say why:\n%s", p.log())
		}
		expectOutput(t, onServer(t, url, 0, "export").stdout, before)
		if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
			t.Errorf("%v, %v were left", left, err)
		}
		onServer(t, url, 0, "import", "--mirror", "--max-removals", "1", onlyUser(t))
	}
}

// fullDisk lets no file of a process grow, as a full disk does.
func fullDisk(t *testing.T, pid int) (restore func()) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1, Max: before.Max}, nil); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &before, nil); err != nil {
			t.Error(err)
		}
	}
}
