package faults

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
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
	binaries := make(map[string]string)
	defer summarize(t)
	count, writes := *runs, 300
	if count == 0 {
		count, writes = len(faults), 100
	}
	done := recorded(t)
	for seed := range uint64(count) {
		f := faults[seed%uint64(len(faults))]
		key := fmt.Sprintf("%d %s", seed, f.name)
		if done[key] {
			continue
		}
		if binaries[f.tags] == "" {
			binaries[f.tags] = build(t, f.tags)
		}
		t.Run(fmt.Sprintf("seed %d, %s", seed, f.name), func(t *testing.T) {
			began := time.Now()
			summary, err := do(t.Context(), t.TempDir(), binaries[f.tags], seed, f, writes)
			if errors.Is(err, errNoMount) && os.Getenv("CI") != "true" {
				t.Skip(err)
			}
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

var summary = regexp.MustCompile(`^\d+ (.*?): (\d+) writes acknowledged, (\d+) without an answer, (\d+) revisions, watches were told of (\d+) changes and came back (\d+) times;`)

// summarize logs what the record has, as the table of docs/benchmarks.md.
func summarize(t *testing.T) {
	t.Helper()
	if *record == "" {
		return
	}
	content, err := os.ReadFile(*record)
	if err != nil {
		t.Fatal(err)
	}
	counts, all := make(map[string][]int), make([]int, 6)
	for line := range strings.Lines(string(content)) {
		found := summary.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		count := counts[found[1]]
		if count == nil {
			count = make([]int, len(all))
		}
		counts[found[1]] = count
		for n := range count {
			value := 1 // the first column counts the runs
			if n > 0 {
				value, _ = strconv.Atoi(found[n+1])
			}
			count[n] += value
			all[n] += value
		}
	}
	var table strings.Builder
	table.WriteString("\n| fault | runs | writes acknowledged | without an answer | revisions | changes that watches were told | watches came back |\n")
	table.WriteString("| --- |" + strings.Repeat(" ---: |", len(all)) + "\n")
	for _, f := range faults {
		count := counts[f.name]
		if count == nil {
			count = make([]int, len(all))
		}
		row(&table, f.name, count)
	}
	row(&table, "all", all)
	t.Log(table.String())
}

func row(table *strings.Builder, name string, counts []int) {
	fmt.Fprintf(table, "| %s |", name)
	for _, count := range counts {
		fmt.Fprintf(table, " %d |", count)
	}
	table.WriteString("\n")
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

// A program that loses one revision in a hundred, leaves out one invalidation of its cache in a hundred,
// or does not sync what it acknowledges, is found out.
func TestTheHarnessFindsFaultsOfTheProgram(t *testing.T) {
	nothing := fault{name: "none", servers: 1, do: func(context.Context, *run) (string, error) { return "", nil }}
	for tags, test := range map[string]struct {
		fault  fault
		writes int
		want   string // a regular expression
	}{
		"roster_skip_revision":     {nothing, 1000, "watch "},
		"roster_skip_invalidation": {nothing, 1000, "no order explains"},
		// What is lost may also be a part of the file, which is damaged then.
		"roster_power_cut,roster_sync_less": {fault{name: "power", servers: 1, do: cutPower}, 100, "the power cut lost acknowledged writes|after a power cut, .*the server does not start"},
	} {
		t.Run(tags, func(t *testing.T) {
			summary, err := do(t.Context(), t.TempDir(), build(t, tags), 1, test.fault, test.writes)
			if err == nil || !regexp.MustCompile("(?s)"+test.want).MatchString(err.Error()) {
				t.Fatalf("%s: got %v, want an error with %q", summary, err, test.want)
			}
			t.Log(err)
		})
	}
}
