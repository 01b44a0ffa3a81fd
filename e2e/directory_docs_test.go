package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The lines with curl in the table of docs/directory.md do what the table says, in the order of the table on the sample
// users.
func TestTheCurlLinesOfTheDirectoryWork(t *testing.T) {
	_, address := serve(t, "--sample")
	rows := regexp.MustCompile("(?m)^\\| (\\w+) \\| [^|]* \\| `-d '(.*)'` \\|$").FindAllStringSubmatch(string(contents(t, "docs/directory.md")), -1)
	want := map[string]string{
		"GetUser":          `"name":"Leila Dubois"`,
		"BatchGetUsers":    `"name":"Ruth Chen"`,
		"ListUsers":        `"nextPageToken":`,
		"CreateUser":       `"name":"Ann"`,
		"UpdateUser":       `"age":38`,
		"DeleteUser":       `"revision":`,
		"BatchUpdateUsers": `"created":[{"id":`,
		"ListChanges":      `"kind":"KIND_CREATED","id":1,`,
	}
	for _, row := range rows {
		method, message := row[1], row[2]
		if want[method] == "" {
			t.Errorf("%s has a line that is not checked", method)
			continue
		}
		if method == "BatchUpdateUsers" {
			// The user of the line before is gone.
			if got := callByCurl(t, address, "CreateUser", `{"user":{"id":1,"name":"Again"}}`); got.code != 0 {
				t.Fatalf("%s%s", got.stdout, got.stderr)
			}
		}
		if got := callByCurl(t, address, method, message); got.code != 0 || !strings.Contains(got.stdout, want[method]) || strings.Contains(got.stdout, `"code":`) {
			t.Errorf("%s with %s: exit %d, %s%s, want %s", method, message, got.code, got.stdout, got.stderr, want[method])
		}
		delete(want, method)
	}
	for method := range want {
		t.Errorf("the table has no line for %s", method)
	}
}

// callByCurl calls a method of the directory as docs/directory.md says.
func callByCurl(t *testing.T, address, method, message string) result {
	t.Helper()
	return run(t, exec.Command("curl", "-sS", "--noproxy", "*", "-H", "content-type: application/json", "-d", message, "http://"+address+"/roster.v1.DirectoryService/"+method))
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
