package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"example.com/roster/client"
	"example.com/roster/internal/printable"
)

func newLogCommand() *cobra.Command {
	var f callFlags
	var from historyFlags
	var last int
	command := &cobra.Command{
		Use:   "log",
		Short: "Print who changed what, and when",
		Long: `Log prints the history of a server's users: each change with its revision, the
time, who made it, and the user after it. The server keeps as much of the history
as its --change-history says; what is asked for beyond that is a failure.

It needs a token of the role write, if the server has tokens. --timeout holds for
all of it.`,
		Example: `  roster log
  roster log --last 1000 --output json
  roster log --from-revision 0`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from.revision != now && cmd.Flags().Changed("last") && os.Getenv(environmentName("last")) == "" {
				return usage("--last and --from-revision exclude each other")
			}
			return f.call(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				start := client.Position{Revision: int64(from.revision), Epoch: from.epoch}
				if from.revision == now {
					var err error
					if start, err = lastRevisions(ctx, c.Directory(), int64(last)); err != nil {
						return err
					}
				}
				return printLog(ctx, cmd.OutOrStdout(), f.output, c.Directory(), start)
			})
		},
	}
	rows := append(from.table("print what came after this revision, 0 for all; by default the --last revisions"),
		flagRow{"", "last", into(&last, 100, atLeastOne), "how many revisions to print, or as many of them as there are"})
	rows = append(rows, f.table()...)
	addFlags(command, rows)
	f.timeout = 10 * time.Second
	if flag := command.Flags().Lookup("timeout"); flag != nil {
		flag.DefValue = f.timeout.String()
	}
	return command
}

// lastRevisions returns the position before the last count revisions, or before all that the history still
// has.
func lastRevisions(ctx context.Context, d *client.Directory, count int64) (client.Position, error) {
	oldest, latest, err := d.History(ctx)
	return client.Position{Revision: max(oldest.Revision, latest.Revision-count), Epoch: latest.Epoch}, err
}

func printLog(ctx context.Context, stdout io.Writer, output outputFlag, d *client.Directory, from client.Position) error {
	out := bufio.NewWriter(stdout)
	array := jsonArray{w: out}
	var rows []client.Change
	first := true
	flush := func() error {
		err := printTable(out, func(table io.Writer) {
			if first {
				fmt.Fprintln(table, "REVISION\tTIME\tBY\tCHANGE\tID\tNAME\tAGE\tEMAIL")
			}
			for _, c := range rows {
				fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%d", c.Revision, c.Time.UTC().Format(time.RFC3339), printable.Line(c.Actor), c.Kind, c.ID)
				if u := c.User; u != nil {
					fmt.Fprintf(table, "\t%s\t%d\t%s", printable.Line(u.Name), u.Age, printable.Line(u.Email))
				}
				fmt.Fprintln(table)
			}
		})
		first, rows = false, rows[:0]
		return err
	}
	for change, err := range d.ListChanges(ctx, from) {
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		if output == outputJSON {
			err = array.add(change)
		} else if rows = append(rows, change); len(rows) == 1000 {
			err = flush()
		}
		if err != nil {
			return err
		}
	}
	end := array.end
	if output != outputJSON {
		end = flush
	}
	return errors.Join(end(), out.Flush())
}
