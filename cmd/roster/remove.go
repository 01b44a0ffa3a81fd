package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"example.com/roster/client"
)

func newRemoveCommand() *cobra.Command {
	var f callFlags
	var allowMissing, check bool
	command := &cobra.Command{
		Use:   "remove ID...",
		Short: "Remove users",
		Long: `Remove has a server remove users: all of them at once, or none. It does not ask.
Ids are written as in "roster get". An id that nobody has is a failure, unless
--allow-missing is given.

It needs a token of the role write, if the server has tokens. Before an id below
zero, write --.`,
		Example: `  roster remove 7
  roster remove 1,2 5-9
  roster remove --allow-missing 7 --output json`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := parseIDs(args)
			if err != nil {
				return err
			}
			const most = 10_000 // of one change (roster/v1/directory.proto)
			batch, named := client.Batch{}, make(map[int32]bool)
			for _, id := range ids {
				if !named[id] {
					batch.Deletes = append(batch.Deletes, client.Delete{ID: id, AllowMissing: allowMissing})
				}
				named[id] = true
			}
			if len(batch.Deletes) > most {
				return usage("%d ids: remove at most %d at a time", len(batch.Deletes), most)
			}
			return f.call(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				_, _, at, err := c.Directory().BatchUpdate(ctx, batch, client.WriteOption{ValidateOnly: check})
				if err != nil {
					return err
				}
				if f.output == outputJSON {
					return printJSON(cmd.OutOrStdout(), at)
				}
				words := "gone at"
				if check {
					words = "could be removed at"
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "%s %s revision %d\n", quantity(int64(len(batch.Deletes)), "user", "users"), words, at.Revision)
				return nil
			})
		},
	}
	addFlags(command, append([]flagRow{
		{"", "allow-missing", into(&allowMissing, false, nil), "an id that nobody has is no failure"},
		checkFlag(&check),
	}, f.table()...))
	return command
}
