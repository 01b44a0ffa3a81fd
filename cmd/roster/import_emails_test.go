package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A row whose email is taken is a bad row: it is told with its line, left out if bad rows are, and a check
// says the same as the import.
func TestImportOfEmailsThatAreTaken(t *testing.T) {
	const header = "id,name,age,email\n"
	file := func(dir, text string) string {
		t.Helper()
		name := filepath.Join(dir, "users.csv")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for name, test := range map[string]struct {
		stored, text string // the users that the store has, and the file
		arguments    []string
		code         int
		said         []string
	}{
		"within the file": {"", header + "1,A,1,a@x.org\n\n3,C,1,A@X.org\n4,D,1,\n", nil, 1,
			[]string{"line 4: id 3: the email is taken by id 1", "1 bad row", "5 read = 2 good + 1 bad + 1 header + 1 blank"}},
		"left out": {"", header + "1,A,1,a@x.org\n\n3,C,1,A@X.org\n4,D,1,\n", []string{"--on-bad-row", "skip"}, 0,
			[]string{"line 4: id 3: the email is taken by id 1", "1 bad row was left out", "+ 1 header + 1 blank"}},
		"of a user of the store": {header + "7,G,1,g@x.org\n", header + "1,A,1,G@x.org\n2,B,1,\n", nil, 1,
			[]string{"line 2: id 1: the email is taken by id 7"}},
		// Without its new email, 7 has that of 8 again.
		"of a user whose row is left out": {header + "6,F,1,f@x.org\n7,G,1,g@x.org\n", header + "7,G,1,f@x.org\n8,H,1,g@x.org\n9,I,1,\n", []string{"--on-bad-row", "skip"}, 0,
			[]string{"line 2: id 7: the email is taken by id 6", "line 3: id 8: the email is taken by id 7", "2 bad rows were left out"}},
		"of a user that a mirror removes": {header + "7,G,1,g@x.org\n", header + "1,A,1,G@x.org\n", []string{"--mirror", "--max-removals", "1"}, 0,
			[]string{"1 user"}},
		"of a duplicate": {"", header + "1,A,1,a@x.org\n1,A,1,b@x.org\n2,B,1,b@x.org\n", []string{"--on-bad-row", "skip"}, 0,
			[]string{"line 3: id 1 came before in this file", "1 bad row was left out"}},
	} {
		t.Run(name, func(t *testing.T) {
			store := filepath.Join(t.TempDir(), "roster.db")
			if test.stored != "" {
				if code, stderr := importFrom(t.Context(), nil, "--store", store, file(t.TempDir(), test.stored)); code != 0 {
					t.Fatal(stderr)
				}
			}
			arguments := append([]string{"--store", store, file(t.TempDir(), test.text)}, test.arguments...)
			for _, flag := range []string{"--check", "--check=false"} {
				code, stderr := importFrom(t.Context(), nil, append(arguments, flag)...)
				for _, want := range test.said {
					if code != test.code || !strings.Contains(stderr, want) {
						t.Errorf("%s: exit %d, want %d:\n%s\nwant %s", flag, code, test.code, stderr, want)
					}
				}
			}
		})
	}
}

// The rows are kept like other bad rows, also of a pipe.
func TestRowsWhoseEmailIsTakenAreKept(t *testing.T) {
	dir := t.TempDir()
	rejected := filepath.Join(dir, "bad.csv")
	text := "id,name,age,email\n1,A,1,a@x.org\n2,\"B, b\",1,A@x.org\n3,C,x,\n"
	code, stderr := importFrom(t.Context(), strings.NewReader(text), "--store", filepath.Join(dir, "roster.db"),
		"--format", "csv", "--on-bad-row", "skip", "--rejected", rejected, "-")
	if code != 0 || !strings.Contains(stderr, "2 bad rows are in "+rejected) {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	if kept, err := os.ReadFile(rejected); err != nil || string(kept) != "id,name,age,email\n3,C,x,\n2,\"B, b\",1,A@x.org\n" {
		t.Errorf("%v, kept:\n%s", err, kept)
	}
}

// A file that is standard input can be read twice, from where it was handed over.
func TestImportReadsAFileThatIsStandardInputTwice(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "users.csv")
	const before = "what the program before has read\n"
	if err := os.WriteFile(name, []byte(before+"id,name,age,email\n1,A,1,a@x.org\n2,B,1,A@x.org\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stdin, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if _, err := stdin.Seek(int64(len(before)), 0); err != nil {
		t.Fatal(err)
	}
	code, stderr := importFrom(t.Context(), stdin, "--store", filepath.Join(dir, "roster.db"), "--format", "csv", "--on-bad-row", "skip", "-")
	if code != 0 || !strings.Contains(stderr, "-: line 3: id 2: the email is taken by id 1") {
		t.Fatalf("exit %d: %s", code, stderr)
	}
}
