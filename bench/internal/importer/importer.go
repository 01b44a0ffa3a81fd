// Package importer measures `roster import` of a large file against the sqlite3
// shell's own .import of the same file into the same table.
package importer

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"example.com/roster/bench/internal/process"
)

// Result is what was measured. Times are one for each round.
type Result struct {
	Rows          int
	Roster, Shell []time.Duration
	// SmallRows and Memory tell whether memory grows with the file: the most
	// that `roster import` had resident for SmallRows and for Rows.
	SmallRows   int
	SmallMemory int64
	Memory      int64
	// Table is what the shell imported into.
	Table string
}

// Measure imports files of that many rows, in turns.
func Measure(ctx context.Context, roster, temp string, rows, rounds int) (*Result, error) {
	dir, err := os.MkdirTemp(temp, "import-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	result := &Result{Rows: rows, SmallRows: rows / 10}
	small, large := filepath.Join(dir, "small.csv"), filepath.Join(dir, "large.csv")
	if err := writeCSV(small, result.SmallRows); err != nil {
		return nil, err
	}
	if err := writeCSV(large, rows); err != nil {
		return nil, err
	}
	store := filepath.Join(dir, "roster.db")
	_, result.SmallMemory, err = runRoster(ctx, roster, store, small, result.SmallRows)
	if err != nil {
		return nil, err
	}
	if result.Table, err = table(ctx, store); err != nil {
		return nil, err
	}
	for range rounds {
		took, memory, err := runRoster(ctx, roster, store, large, rows)
		if err != nil {
			return nil, err
		}
		result.Roster = append(result.Roster, took)
		result.Memory = max(result.Memory, memory)
		if took, err = runShell(ctx, filepath.Join(dir, "shell.db"), result.Table, large, rows); err != nil {
			return nil, err
		}
		result.Shell = append(result.Shell, took)
	}
	return result, nil
}

// writeCSV writes users that look like the sample's, ids in order.
func writeCSV(name string, rows int) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer file.Close()
	w := bufio.NewWriterSize(file, 1<<20)
	fmt.Fprintln(w, "id,name,age,email")
	for id := 1; id <= rows; id++ {
		fmt.Fprintf(w, "%d,Person Number %d,%d,person.%d@example.com\n", id, id, id%90, id)
	}
	return w.Flush()
}

func remove(store string) error {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.RemoveAll(store + suffix); err != nil {
			return err
		}
	}
	return nil
}

// runRoster imports into a new store.
func runRoster(ctx context.Context, roster, store, file string, rows int) (time.Duration, int64, error) {
	if err := remove(store); err != nil {
		return 0, 0, err
	}
	cmd := exec.CommandContext(ctx, roster, "import", "--store", store, file)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	ended := make(chan struct{})
	peak := make(chan int64)
	go func() { peak <- watchMemory(cmd.Process.Pid, ended) }()
	err := cmd.Wait()
	took := time.Since(began)
	close(ended)
	memory := <-peak
	if err != nil {
		return 0, 0, fmt.Errorf("%v: %w\n%s", cmd, err, out.Bytes())
	}
	if err := count(ctx, store, rows); err != nil {
		return 0, 0, err
	}
	return took, memory, nil
}

// watchMemory returns the most that a process had resident, seen last a moment
// before its end.
func watchMemory(pid int, ended <-chan struct{}) (most int64) {
	for {
		// It cannot be read any more once the process has ended.
		if bytes, err := process.PeakRSS(pid); err == nil {
			most = max(most, bytes)
		}
		select {
		case <-ended:
			return most
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// runShell imports into a new database with the table and its indexes, which
// are not part of what is timed.
func runShell(ctx context.Context, store, table, file string, rows int) (time.Duration, error) {
	if err := remove(store); err != nil {
		return 0, err
	}
	if out, err := exec.CommandContext(ctx, "sqlite3", store, table).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("sqlite3: make the table: %w\n%s", err, out)
	}
	began := time.Now()
	out, err := exec.CommandContext(ctx, "sqlite3", store, fmt.Sprintf(".import --csv --skip 1 %s users", file)).CombinedOutput()
	took := time.Since(began)
	if err != nil || len(out) > 0 {
		return 0, fmt.Errorf("sqlite3 .import: %v\n%.2000s", err, out)
	}
	return took, count(ctx, store, rows)
}

func count(ctx context.Context, store string, rows int) error {
	out, err := exec.CommandContext(ctx, "sqlite3", store, "SELECT count(*) FROM users").CombinedOutput()
	if err != nil {
		return fmt.Errorf("sqlite3: count the rows of %s: %w\n%s", store, err, out)
	}
	if got := string(out); got != fmt.Sprintf("%d\n", rows) {
		return fmt.Errorf("%s has %q rows, not %d", store, got, rows)
	}
	return nil
}

// revision is the one column of Roster's table that the file has not, with
// what stands before it.
var revision = regexp.MustCompile(`,\s*(--[^\n]*\n\s*)*revision\s+INTEGER NOT NULL`)

// table returns the schema of Roster's users as the shell can import into it:
// the same columns, constraints and indexes, without the revision of a row.
func table(ctx context.Context, store string) (string, error) {
	out, err := exec.CommandContext(ctx, "sqlite3", store,
		"SELECT sql || ';' FROM sqlite_master WHERE tbl_name = 'users' AND type IN ('table', 'index') AND sql NOT LIKE '%(revision)%'").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("sqlite3: read the schema of %s: %w\n%s", store, err, out)
	}
	return revision.ReplaceAllString(string(out), ""), nil
}
