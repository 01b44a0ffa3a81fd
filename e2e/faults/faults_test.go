package faults

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	runs   = flag.Int("runs", 0, "how many runs TestFaults makes; 0 makes one of each fault")
	record = flag.String("record", "", "a file that gets a line for each run; the runs that it has are not made again")
)

// build builds the program, with a fault of its own if tags say so.
func build(t *testing.T, tags string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "roster")
	command := exec.Command("go", "build", "-tags", tags, "-o", binary, "./cmd/roster")
	command.Dir = filepath.Join("..", "..")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s\n%v", out, err)
	}
	return binary
}

// TestFaults makes runs, each with one of the faults in turn.
func TestFaults(t *testing.T) {
	binary := build(t, "")
	count := *runs
	if count == 0 {
		count = len(faults)
	}
	done := recorded(t)
	for seed := range uint64(count) {
		f := faults[seed%uint64(len(faults))]
		key := fmt.Sprintf("%d %s", seed, f.name)
		if done[key] {
			continue
		}
		t.Run(fmt.Sprintf("seed %d, %s", seed, f.name), func(t *testing.T) {
			began := time.Now()
			summary, err := do(t.Context(), t.TempDir(), binary, seed, f, 300)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(summary)
			note(t, fmt.Sprintf("%s: %s; %.1f s\n", key, summary, time.Since(began).Seconds()))
		})
	}
}

// recorded returns the runs that the record has.
func recorded(t *testing.T) map[string]bool {
	t.Helper()
	done := make(map[string]bool)
	file, err := os.Open(*record)
	if err != nil {
		return done // there is none yet
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if key, _, ok := strings.Cut(lines.Text(), ": "); ok {
			done[key] = true
		}
	}
	return done
}

func note(t *testing.T, line string) {
	t.Helper()
	if *record == "" {
		return
	}
	file, err := os.OpenFile(*record, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(line); err != nil {
		t.Fatal(err)
	}
}

// A program that loses one revision, or leaves out one invalidation of its cache, in a hundred is found
// out.
func TestTheHarnessFindsFaultsOfTheProgram(t *testing.T) {
	for tag, want := range map[string]string{"roster_skip_revision": "watch ", "roster_skip_invalidation": "no order explains"} {
		t.Run(tag, func(t *testing.T) {
			binary := build(t, tag)
			nothing := fault{"none", 1, func(context.Context, *run) (string, error) { return "", nil }}
			summary, err := do(t.Context(), t.TempDir(), binary, 1, nothing, 1000)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("%s: got %v, want an error with %q", summary, err, want)
			}
			t.Log(err)
		})
	}
}
