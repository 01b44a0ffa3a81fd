package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// importFrom runs roster import with a standard input.
func importFrom(ctx context.Context, stdin io.Reader, arguments ...string) (code int, stderr string) {
	var errors bytes.Buffer
	code = run(ctx, append([]string{"import"}, arguments...), stdin, io.Discard, &errors)
	return code, errors.String()
}

// manyRows is a CSV of several batches: of each hundred users one is bad and one is there twice.
func manyRows(n int) string {
	var text strings.Builder
	text.WriteString("id,name,age,email\n")
	for id := range n {
		switch id % 100 {
		case 7:
			text.WriteString("x,Bad,1,\n")
		case 8:
			fmt.Fprintf(&text, "%d,Again,1,\n", id-8)
		default:
			fmt.Fprintf(&text, "%d,User %d,1,\n", id, id)
		}
	}
	return text.String()
}

// What is left out of many batches is counted and kept, row by row.
func TestImportLeavesOutAndKeepsBadRows(t *testing.T) {
	dir := t.TempDir()
	store, rejected := filepath.Join(dir, "roster.db"), filepath.Join(dir, "bad.csv")
	arguments := []string{"--store", store, "--format", "csv", "--on-bad-row", "skip"}
	const account = "10001 read = 9800 %s + 200 %s + 1 header + 0 blank"
	code, stderr := importFrom(t.Context(), strings.NewReader(manyRows(10_000)), append(arguments, "--check", "-")...)
	if want := fmt.Sprintf(account, "good", "bad"); code != 0 || !strings.Contains(stderr, want) {
		t.Fatalf("exit %d: %s\nwant %s", code, stderr, want)
	}
	if _, err := os.Stat(store); err == nil {
		t.Fatal("a check creates the store")
	}
	code, stderr = importFrom(t.Context(), strings.NewReader(manyRows(10_000)), append(arguments, "--rejected", rejected, "-")...)
	if want := fmt.Sprintf(account, "taken", "left out"); code != 0 || !strings.Contains(stderr, want) || !strings.Contains(stderr, "imported 9800 users") || !strings.Contains(stderr, " rows/s (") {
		t.Fatalf("exit %d: %s\nwant %s", code, stderr, want)
	}
	text, err := os.ReadFile(rejected)
	if err != nil || strings.Count(string(text), "x,Bad,1,\n") != 100 || strings.Count(string(text), ",Again,1,\n") != 100 || strings.Count(string(text), "\n") != 201 {
		t.Fatalf("%v, rejected:\n%.300s", err, text)
	}
}

// stalled is an input that brings some text, and then neither more nor an end.
type stalled struct {
	io.Reader
	reached chan<- struct{}
}

func (s stalled) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err == nil {
		return n, nil
	}
	close(s.reached)
	select {}
}

// An import whose input never ends is ended, says so, and leaves nothing behind.
func TestAnImportThatWaitsIsInterrupted(t *testing.T) {
	for _, text := range []string{"", "id,name", manyRows(5000)} {
		for _, flag := range []string{"--check", "--check=false"} {
			temporary := t.TempDir()
			t.Setenv("TMPDIR", temporary)
			ctx, cancel := context.WithCancel(t.Context())
			reached := make(chan struct{})
			go func() {
				<-reached
				cancel()
			}()
			store := filepath.Join(t.TempDir(), "roster.db")
			code, stderr := importFrom(ctx, stalled{strings.NewReader(text), reached}, "--store", store, "--format", "csv", "--on-bad-row", "skip", flag, "-")
			if code != 1 || !strings.HasSuffix(stderr, "roster: -: interrupted; nothing was imported\n") {
				t.Errorf("%.20q %s: exit %d: %s", text, flag, code, stderr)
			}
			if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
				t.Errorf("%.20q %s: %v is left behind, %v", text, flag, left, err)
			}
			if _, err := os.Stat(store); err == nil {
				t.Errorf("%.20q %s: the store was created", text, flag)
			}
		}
	}
}
