package main

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"example.com/roster/client"
)

func newUpdateCommand() *cobra.Command {
	var f callFlags
	var user userFlags
	var etag string
	var check bool
	command := &cobra.Command{
		Use:   "update ID",
		Short: "Change fields of a user",
		Long: `Update has a server change those fields of a user that are given, and prints the
user as it is then. With --etag, which "roster list --output json" shows, it does
so only if nobody has changed the user meanwhile.

It needs a token of the role write, if the server has tokens. Before an id below
zero, write --.`,
		Example: `  roster update 7 --age 32
  roster update 7 --email ""
  roster update --name "Ann Lee" -- -5`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("update takes one ID, got %d", len(args))
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseID(args[0])
			if err != nil {
				return err
			}
			var fields []string
			for _, name := range []string{"name", "age", "email"} {
				if cmd.Flags().Changed(name) {
					fields = append(fields, name)
				}
			}
			if len(fields) == 0 {
				return usage("say what to change: --name, --age or --email")
			}
			record := client.Record{ID: id, Name: user.name, Age: int32(user.age), Email: user.email, ETag: etag}
			return f.call(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				updated, err := c.Directory().Update(ctx, record, fields, client.WriteOption{ValidateOnly: check})
				if err != nil {
					return withPresent(err)
				}
				return f.printRecord(cmd.OutOrStdout(), updated)
			})
		},
	}
	rows := append(user.table(""), etagFlag(&etag), checkFlag(&check))
	addFlags(command, append(rows, f.table()...))
	return command
}

func etagFlag(etag *string) flagRow {
	return flagRow{"", "etag", into(etag, "", nil), "do it only if the user still has this etag"}
}

// withPresent adds to an error that a user has changed how the user is now.
func withPresent(err error) error {
	failure := (*client.Error)(nil)
	if !errors.As(err, &failure) || connect.CodeOf(failure) != connect.CodeAborted || failure.Present() == nil {
		return err
	}
	now := failure.Present()
	return fmt.Errorf("%w\nIt is now: id %d, name %q, age %d, email %q, etag %s", err, now.ID, now.Name, now.Age, now.Email, now.ETag)
}
