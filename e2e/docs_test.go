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
// stands in the sources of Roster, or of Connect, or of what checks the rules.
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

	folders := []string{filepath.Join(root, "server")}
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
