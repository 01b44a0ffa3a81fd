package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The commands of docs/directory.md follow one another, on a server as the first of them starts it.
func TestTheCommandsOfTheDirectoryWork(t *testing.T) {
	_, address := serve(t, "--sample")
	folder := t.TempDir()
	if err := os.Symlink(binary, filepath.Join(folder, "roster")); err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(contents(t, "docs/directory.md")), -1)
	if len(blocks) < 17 || !strings.HasPrefix(blocks[0][1], "roster serve --sample --store ") {
		t.Fatalf("%d blocks, the first is %q", len(blocks), blocks[0][1])
	}
	called := map[string]bool{}
	for _, block := range blocks[1:] {
		script := strings.ReplaceAll(block[1], "localhost:50051", address)
		command := exec.Command("sh", "-e", "-c", script)
		command.Dir = folder
		command.Env = append(os.Environ(), "PATH="+folder+":"+os.Getenv("PATH"), "ROSTER_SERVER=http://"+address)
		got := run(t, command)
		failed := regexp.MustCompile(`{"code":"(\w+)"`).FindStringSubmatch(got.stdout)
		if got.code != 0 || failed != nil && !strings.Contains(script, strings.ToUpper(failed[1])) { // one is to fail, and says so
			t.Errorf("exit %d: %s%s of\n%s", got.code, got.stdout, got.stderr, script)
		}
		for _, method := range regexp.MustCompile(`DirectoryService/(\w+)`).FindAllStringSubmatch(script, -1) {
			called[method[1]] = true
		}
	}
	for _, method := range []string{"GetUser", "BatchGetUsers", "ListUsers", "CreateUser", "UpdateUser", "DeleteUser", "BatchUpdateUsers", "ListChanges"} {
		if !called[method] {
			t.Errorf("no command calls %s", method)
		}
	}
}

// The Python lines of docs/directory.md are one program.
func TestThePythonLinesOfTheDirectoryWork(t *testing.T) {
	venv := need(t, "ROSTER_E2E_NEWEST")
	_, address := serve(t, "--sample")
	var lines strings.Builder
	for _, block := range regexp.MustCompile("(?ms)^```python\n(.*?)^```$").FindAllStringSubmatch(string(contents(t, "docs/directory.md")), -1) {
		lines.WriteString(strings.ReplaceAll(block[1], "localhost:50051", address))
	}
	program := exec.Command(filepath.Join(venv, "bin", "python"), "-c", lines.String())
	program.Dir = t.TempDir()
	program.Env = append(os.Environ(), "PYTHONPATH="+filepath.Join(root, "python", "src")+":"+filepath.Join(root, "gen", "python"))
	if got := run(t, program); got.code != 0 || !strings.Contains(got.stdout, "Leila Dubois") {
		t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
}

// The programs of python/README.md that read, change, watch and copy users run as they are, but for the address.
func TestThePythonProgramsOfTheDirectoryWork(t *testing.T) {
	venv := need(t, "ROSTER_E2E_NEWEST")
	_, address := serve(t, "--sample")
	_, section, _ := strings.Cut(string(contents(t, "python/README.md")), "\n## Read, change and watch users\n")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := regexp.MustCompile("(?ms)^```python\n(.*?)^```$").FindAllStringSubmatch(section, -1)
	want := [][]string{
		{"Ann Lee", "ann@example.com", "CREATED"},
		{"Leila Dubois"},
	}
	if len(blocks) != len(want) {
		t.Fatalf("%d blocks, and %d are checked", len(blocks), len(want))
	}
	for i, block := range blocks {
		program := exec.Command(filepath.Join(venv, "bin", "python"), "-c", strings.ReplaceAll(block[1], "localhost:50051", address))
		program.Env = append(os.Environ(), "PYTHONPATH="+filepath.Join(root, "python", "src")+":"+filepath.Join(root, "gen", "python"))
		got := run(t, program)
		for _, words := range want[i] {
			if got.code != 0 || !strings.Contains(got.stdout, words) {
				t.Errorf("exit %d: %s%s\nwant %s, of\n%s", got.code, got.stdout, got.stderr, words, block[1])
			}
		}
	}
}
