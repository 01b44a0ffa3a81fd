package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"example.com/roster/directory/userfile"
)

// maxBadRows is how many bad rows are reported one by one.
const maxBadRows = 20

func newImportCommand() *cobra.Command {
	var store, format, onBadRow string
	command := &cobra.Command{
		Use:   "import FILE",
		Short: "Load users from a CSV or NDJSON file into the store",
		Long: `Import loads users from FILE (- for standard input) into the store.

CSV has the columns id,name,age,email, named in its first line, in any order.
NDJSON has one object with those keys a line. Both are UTF-8.

A user whose id is already in the store is replaced. The import is one change:
if it fails or is interrupted, the store stays as it was. A server that runs on
the store answers with the new users within a second of the end.

A bad row (a field out of bounds, an id that came before) is reported with its
line. By default one bad row refuses the whole file; with --on-bad-row skip
only the bad rows are left out.`,
		Example: `  roster import users.csv
  roster import --on-bad-row skip --store people.db users.ndjson
  zcat users.csv.gz | roster import --format csv -`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("import takes one FILE, got %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runImport(cmd, args[0], store, userfile.Format(format), onBadRow == "skip")
		},
	}
	addFlags(command, []flagRow{
		{"", "store", into(&store, defaultStore, checkStore), storeHelp},
		{"", "format", choice(&format, "", string(userfile.CSV), string(userfile.NDJSON)),
			"csv or ndjson; by default from the name of FILE"},
		{"", "on-bad-row", choice(&onBadRow, "refuse", "refuse", "skip"),
			"what a bad row does: refuse the whole file, or skip the row"},
	})
	return command
}

func runImport(cmd *cobra.Command, name, storeName string, format userfile.Format, skip bool) error {
	ctx, stderr := cmd.Context(), cmd.ErrOrStderr()
	if format == "" {
		var err error
		if format, err = userfile.FormatOf(name); err != nil {
			return usage("%w: say --format csv or ndjson", err)
		}
	}
	file, size, err := openInput(cmd, name)
	if err != nil {
		return err
	}
	defer file.Close()
	bar := newProgressBar(stderr, size, name)
	input := progressbar.NewReader(file, bar)
	reader, err := beginReading(ctx, &input, format)
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: interrupted; nothing was imported", name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w; nothing was imported", name, err)
	}
	store, err := openStore(ctx, storeName)
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: interrupted; nothing was imported", name)
	}
	if err != nil {
		return err
	}
	defer store.Close()

	badRows := 0
	began := time.Now()
	stored, err := importUsers(ctx, store, reader, func(row *userfile.RowError) {
		if badRows++; badRows <= maxBadRows {
			bar.Clear()
			fmt.Fprintf(stderr, "%s: %v\n", name, row)
		} else if badRows == maxBadRows+1 {
			bar.Clear()
			fmt.Fprintf(stderr, "%s: more bad rows follow; they are counted\n", name)
		}
	}, func() error {
		if badRows > 0 && !skip {
			return fmt.Errorf("%s: %s: correct the file, or leave bad rows out with --on-bad-row skip", name, counted(badRows, "bad row"))
		}
		return nil
	})
	bar.Clear()
	switch {
	case err != nil && errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: interrupted; nothing was imported", name)
	case err != nil:
		return fmt.Errorf("%w; nothing was imported", err)
	}
	fmt.Fprintf(stderr, "imported %s into %s in %v", counted(stored, "user"), redactStore(storeName), time.Since(began).Round(time.Millisecond))
	if badRows > 0 {
		fmt.Fprintf(stderr, "; %s left out", counted(badRows, "bad row"))
	}
	fmt.Fprintln(stderr)
	return nil
}

// openInput opens name, or standard input for "-", and returns its size in bytes, -1 if it is
// unknown.
func openInput(cmd *cobra.Command, name string) (io.ReadCloser, int64, error) {
	if name == "-" {
		return io.NopCloser(cmd.InOrStdin()), -1, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory: import takes a file", name)
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return file, -1, nil
	}
	return file, info.Size(), nil
}

// beginReading is userfile.NewReader, but returns when ctx is done: a pipe may keep it waiting for
// ever.
func beginReading(ctx context.Context, r io.Reader, format userfile.Format) (*userfile.Reader, error) {
	type begun struct {
		reader *userfile.Reader
		err    error
	}
	done := make(chan begun, 1)
	go func() {
		reader, err := userfile.NewReader(r, format)
		done <- begun{reader, err}
	}()
	select {
	case b := <-done:
		return b.reader, b.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// newProgressBar returns a progress bar that is drawn only on a terminal.
func newProgressBar(w io.Writer, size int64, name string) *progressbar.ProgressBar {
	return progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetVisibility(isTerminal(w)),
		progressbar.OptionSetDescription(name),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
}
