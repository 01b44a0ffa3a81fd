package e2e

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every text in the runbook's table of errors is one that the port has: it
// stands in the sources of Roster's port and directory, or of Connect, or of what checks the rules.
func TestTheRunbooksErrorsAreThoseOfThePort(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, errorsPart, ok := strings.Cut(string(page), "\n## Errors\n")
	if !ok {
		t.Fatal("docs/operations.md has no section Errors")
	}
	errorsPart, _, _ = strings.Cut(errorsPart, "\n## ")

	folders := []string{filepath.Join(root, "server"), filepath.Join(root, "directory")}
	for _, module := range []string{"connectrpc.com/connect", "buf.build/go/protovalidate"} {
		list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module)
		list.Dir = root
		out, err := list.Output()
		if err != nil {
			t.Fatal(err)
		}
		folders = append(folders, strings.TrimSpace(string(out)))
	}
	// Where the sources put a text together, it is not found in one piece.
	sources := "must contain at least 1 item(s), has 0\x00unary request has"
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			sources += "\x00" + string(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	sources = strings.ReplaceAll(sources, `\"`, `"`)

	verb := regexp.MustCompile(`…|4194304|ids: `)
	rows := 0
	for _, line := range strings.Split(errorsPart, "\n") {
		cells := strings.Split(line, " | ")
		if len(cells) < 4 || !strings.Contains(cells[1], "`") {
			continue
		}
		rows++
		for _, text := range regexp.MustCompile("`[^`]+`").FindAllString(cells[1], -1) {
			for _, piece := range verb.Split(strings.Trim(text, "`"), -1) {
				if piece = strings.Trim(piece, " ,.:;"); len(piece) > 3 && !strings.Contains(sources, piece) {
					t.Errorf("no source has %q, of %s", piece, text)
				}
			}
		}
	}
	if rows < 30 {
		t.Errorf("%d rows were found", rows)
	}
}

// What the runbook says that an import says is in its sources.
func TestTheRunbooksImportTextsAreThoseOfTheProgram(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, chapter, ok := strings.Cut(string(page), "\n## Importing users\n")
	if !ok {
		t.Fatal("docs/operations.md has no section Importing users")
	}
	chapter, _, _ = strings.Cut(chapter, "\n## ")
	sources := "a row of more than 1048576 bytes" // put together
	for _, pattern := range []string{"cmd/roster/import*.go", "directory/userfile/*.go", "directory/user.go"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(file, "_test.go") {
				sources += "\x00" + strings.NewReplacer("\" +\n\t\t\t\t\t\"", "", "\" +\n\t\t\"", "").Replace(string(text))
			}
		}
	}
	_, table, _ := strings.Cut(chapter, "| text | cause |")
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, " | ")
		if len(cells) < 3 || !strings.Contains(cells[0], "`") {
			continue
		}
		rows++
		for _, text := range regexp.MustCompile("`[^`]+`").FindAllString(cells[0], -1) {
			for _, piece := range regexp.MustCompile(`…|: is a quote`).Split(strings.Trim(text, "`"), -1) {
				if piece = strings.Trim(piece, " ,.:;"); len(piece) > 3 && !strings.Contains(sources, piece) {
					t.Errorf("no source has %q, of %s", piece, text)
				}
			}
		}
	}
	if rows < 9 {
		t.Errorf("%d rows were found", rows)
	}
	// The flags are those of the command.
	help := roster(t, "import", "--help").stdout
	for _, flag := range regexp.MustCompile("--[a-z][a-z-]+").FindAllString(chapter, -1) {
		if flag != "--help" && !strings.Contains(help, flag) {
			t.Errorf("roster import --help does not have %s", flag)
		}
	}
	for _, limit := range []string{"-2147483648 to 2147483647", "1 to 256 bytes", "0 to 150", "at most 320 bytes", "at most 1 MiB"} {
		if !strings.Contains(help, limit) {
			t.Errorf("roster import --help does not say %q", limit)
		}
	}
}
