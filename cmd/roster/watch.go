package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"example.com/roster/client"
	"example.com/roster/internal/printable"
)

// historyFlags are a place in the history on the command line.
type historyFlags struct {
	revision int
	epoch    string
}

const now = -1 // as a revision

func (f *historyFlags) table(help string) []flagRow {
	return []flagRow{
		{"", "from-revision", into(&f.revision, now, func(n int) error {
			if n < now {
				return errors.New("must not be negative")
			}
			return nil
		}), help},
		{"", "epoch", into(&f.epoch, "", func(epoch string) error {
			if epoch != "" && f.revision == now {
				return usage("--epoch goes with --from-revision")
			}
			return nil
		}), "epoch of --from-revision; by default whichever there is"},
	}
}

func newWatchCommand() *cobra.Command {
	var f callFlags
	var from historyFlags
	var options client.WatchOptions
	command := &cobra.Command{
		Use:   "watch",
		Short: "Print changes as they are made",
		Long: `Watch prints every change of a server's users, once and in order, until it is
interrupted. If the connection breaks it says why, comes back by itself, and goes
on where it was. If that place is not in the history any more, because it has
been compacted or the directory was restored from a backup, it prints "reset",
and then all users anew.

--output json prints one object a line: {"change":…}, {"progress":…}, which says
that everything up to its revision has been printed, or {"reset":…}. A watch goes
on after a progress with its --from-revision and --epoch.`,
		Example: `  roster watch
  roster watch --from-beginning --output json
  roster watch --from-revision 1200 --epoch 4f1c…`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from.revision != now {
				if options.FromBeginning {
					return usage("--from-beginning and --from-revision exclude each other")
				}
				options.From = &client.Position{Revision: int64(from.revision), Epoch: from.epoch}
			}
			err := f.connect(func(c *client.Client) error {
				return runWatch(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), f.output, c, options)
			})
			if cmd.Context().Err() != nil {
				return nil // interrupted, which is how a watch ends
			}
			return err
		},
	}
	rows := append(from.table("begin after this revision, 0 for the whole history; by default now"),
		flagRow{"", "from-beginning", into(&options.FromBeginning, false, nil), "begin with all users"},
		flagRow{"", "filter", into(&options.Filter, "", nil), filterHelp},
		flagRow{"", "progress-interval", into(&options.ProgressInterval, 10*time.Second, checkInterval), "how often to say up to where everything has been printed"})
	addFlags(command, append(rows, withoutFlags(f.table(), "timeout")...))
	return command
}

func checkInterval(interval time.Duration) error {
	if interval < 100*time.Millisecond || interval > 10*time.Minute {
		return errors.New("must be from 100ms to 10m")
	}
	return nil
}

func runWatch(ctx context.Context, stdout, stderr io.Writer, output outputFlag, c *client.Client, options client.WatchOptions) error {
	told := "" // of a server that stays away, once
	options.OnBreak = func(err error) {
		if text := whatFailed(err); text != told && ctx.Err() == nil {
			told = text
			fmt.Fprintf(stderr, "the watch broke, and comes back by itself: %s\n", text)
		}
	}
	for event, err := range c.Directory().Watch(ctx, options) {
		told = ""
		switch {
		case err != nil:
			return err
		case output == outputJSON:
			err = printJSONLine(stdout, event)
		case event.Change != nil:
			err = printChange(stdout, *event.Change)
		case event.Reset != "":
			fmt.Fprintf(stderr, "the watch begins again: %s; all users follow\n", printable.Line(event.Reset))
			_, err = io.WriteString(stdout, "reset\n")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// whatFailed is the text of an error of a call without how long it took, so that the same failure reads the
// same.
func whatFailed(err error) string {
	if failure := (*client.Error)(nil); errors.As(err, &failure) {
		same := *failure
		same.Attempts, same.Elapsed = 0, 0
		return same.Error()
	}
	return printable.Line(err.Error())
}

// printChange writes a line: revision, kind, id and, if there is one, the user.
func printChange(w io.Writer, change client.Change) error {
	text := fmt.Sprintf("%-8d  %-8s  %d", change.Revision, change.Kind, change.ID)
	if u := change.User; u != nil {
		text += fmt.Sprintf("  %s  %d  %s", printable.Line(u.Name), u.Age, printable.Line(u.Email))
	}
	_, err := io.WriteString(w, text+"\n")
	return err
}

// printJSONLine writes v for programs to read, on one line.
func printJSONLine(w io.Writer, v any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(printable.JSON(text.Bytes()))
	return err
}
