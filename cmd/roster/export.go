package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"example.com/roster/client"
	"example.com/roster/directory/userfile"
	"example.com/roster/internal/printable"
)

func newExportCommand() *cobra.Command {
	var f callFlags
	var format, filter string
	command := &cobra.Command{
		Use:   "export",
		Short: "Print all users as CSV or NDJSON",
		Long: `Export prints all users of a server, or those that match --filter, in the order of
their ids, all as of one revision. It prints them as they come, so memory does
not grow with their number. "roster import" reads what it prints.

If it fails before the end, the exit code is 1, and what it has printed is not
complete. A reader that is too slow fails: the server keeps one revision only for
a time.`,
		Example: `  roster export > users.csv
  roster export --format ndjson | gzip > users.ndjson.gz
  roster export --server https://a.example | roster import --format csv --server https://b.example -`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.connect(func(c *client.Client) error {
				return runExport(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), c, format, filter)
			})
		},
	}
	addFlags(command, append([]flagRow{
		{"", "format", choice(&format, string(userfile.CSV), string(userfile.CSV), string(userfile.NDJSON)), "csv or ndjson"},
		{"", "filter", into(&filter, "", nil), filterHelp},
	}, withoutFlags(f.table(), "timeout", "output")...))
	return command
}

// A userWriter writes users in a format.
type userWriter interface {
	write(client.Record) error
	flush() error
}

func runExport(ctx context.Context, stdout, stderr io.Writer, c *client.Client, format, filter string) error {
	buffer := bufio.NewWriterSize(stdout, 64<<10)
	var out userWriter = &ndjsonWriter{buffer}
	if format == string(userfile.CSV) {
		out = &csvWriter{csv.NewWriter(buffer), buffer}
		if err := out.(*csvWriter).Write([]string{"id", "name", "age", "email"}); err != nil {
			return err
		}
	}
	var count int64
	for user, err := range c.Directory().Export(ctx, filter) {
		if err == nil {
			err = out.write(user)
		}
		if err != nil {
			_ = out.flush() // the error before it says more
			return fmt.Errorf("%w\nThe export is not complete: %s written", err, quantity(count, "user was", "users were"))
		}
		count++
	}
	if err := out.flush(); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "exported %s\n", quantity(count, "user", "users"))
	return nil
}

type csvWriter struct {
	*csv.Writer
	under *bufio.Writer
}

func (w *csvWriter) write(u client.Record) error {
	return w.Write([]string{strconv.Itoa(int(u.ID)), u.Name, strconv.Itoa(int(u.Age)), u.Email})
}

func (w *csvWriter) flush() error {
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	return w.under.Flush()
}

type ndjsonWriter struct{ *bufio.Writer }

func (w *ndjsonWriter) write(u client.Record) error {
	line, err := json.Marshal(struct {
		ID    int32  `json:"id"`
		Name  string `json:"name"`
		Age   int32  `json:"age"`
		Email string `json:"email"`
	}{u.ID, u.Name, u.Age, u.Email})
	if err != nil {
		return err
	}
	if _, err := w.Write(printable.JSON(line)); err != nil {
		return err
	}
	return w.WriteByte('\n')
}

func (w *ndjsonWriter) flush() error { return w.Flush() }
