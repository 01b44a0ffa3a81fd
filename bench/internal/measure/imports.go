package measure

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

	"example.com/roster/bench/internal/peer"
)

// The programs that import.
const (
	Shell        = "sqlite3 `.import`"
	RosterImport = "`roster import`"
	RosterSmall  = "`roster import` of a tenth of the rows"
)

// imports measures one import of a program into a new store.
func imports(ctx context.Context, r *Run, _ Case, name string) (Sample, error) {
	rows := r.Rows
	if name == RosterSmall {
		rows /= 10
	}
	file, store := filepath.Join(r.Setup.Temp, fmt.Sprintf("%d.csv", rows)), filepath.Join(r.Setup.Temp, "import.db")
	if err := writeCSV(file, rows); err != nil {
		return Sample{}, err
	}
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.RemoveAll(store + suffix); err != nil {
			return Sample{}, err
		}
	}
	command := []string{peer.RosterPath, "import", "--store", store, file}
	if name == Shell {
		if err := makeTable(ctx, r.Setup.Temp, store); err != nil {
			return Sample{}, err
		}
		command = []string{"sqlite3", store, ".import --csv --skip 1 " + file + " users"}
	}
	began := time.Now()
	memory, err := largest(exec.CommandContext(ctx, command[0], command[1:]...))
	took := time.Since(began)
	if err != nil {
		return Sample{}, err
	}
	got, err := sqlite(ctx, store, "SELECT count(*) FROM users")
	if err == nil && got != fmt.Sprintf("%d\n", rows) {
		err = fmt.Errorf("%s left %q rows, not %d", name, got, rows)
	}
	return Sample{Took: took.Seconds(), Memory: float64(memory)}, err
}

// writeCSV writes users that look like those of the sample, unless the file is there already.
func writeCSV(name string, rows int) error {
	if _, err := os.Stat(name); err == nil {
		return nil
	}
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

// largest runs a command, and returns the largest memory that it has had resident, seen last a
// moment before its end.
func largest(cmd *exec.Cmd) (most int64, err error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		// It cannot be read any more once the process has ended.
		if bytes, err := peer.PeakRSS(cmd.Process.Pid); err == nil {
			most = max(most, bytes)
		}
		select {
		case err := <-ended:
			if err != nil {
				err = fmt.Errorf("%v: %w\n%.2000s", cmd, err, out.Bytes())
			}
			return most, err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func sqlite(ctx context.Context, store, query string) (string, error) {
	out, err := exec.CommandContext(ctx, "sqlite3", store, query).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("sqlite3 %s %q: %w\n%s", filepath.Base(store), query, err, out)
	}
	return string(out), nil
}

// makeTable makes Roster's table of users as the shell can import into it: the same columns,
// constraints and indexes, without the revision of a row, which the file does not have.
func makeTable(ctx context.Context, temp, store string) error {
	empty := filepath.Join(temp, "empty.db")
	if err := writeCSV(empty+".csv", 0); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, peer.RosterPath, "import", "--store", empty, empty+".csv").CombinedOutput(); err != nil {
		return fmt.Errorf("make an empty store: %w\n%s", err, out)
	}
	schema, err := sqlite(ctx, empty, `SELECT sql || ';' FROM sqlite_master
		WHERE tbl_name = 'users' AND type IN ('table', 'index') AND sql NOT LIKE '%(revision)%'`)
	if err != nil {
		return err
	}
	revision := regexp.MustCompile(`,\s*(--[^\n]*\n\s*)*revision\s+INTEGER NOT NULL`)
	_, err = sqlite(ctx, store, revision.ReplaceAllString(schema, ""))
	return err
}
