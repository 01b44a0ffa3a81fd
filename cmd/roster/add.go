package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"example.com/roster/client"
)

func newAddCommand() *cobra.Command {
	var f callFlags
	var user userFlags
	var id string
	var check bool
	command := &cobra.Command{
		Use:   "add",
		Short: "Add a user",
		Long: `Add has a server add a user, and prints it. Without --id the user gets an id that
nobody has had: one more than the highest that was ever used. An id or an email
that another user has is refused.

It needs a token of the role write, if the server has tokens.`,
		Example: `  roster add --name "Ann Lee" --age 31 --email ann@example.com
  roster add --id 7 --name Bob --output json`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if user.name == "" {
				return usage("give the user a --name")
			}
			record := client.Record{Name: user.name, Age: int32(user.age), Email: user.email}
			if id != "" {
				parsed, _ := strconv.ParseInt(id, 10, 32) // checkID has checked it
				record.ID = int32(parsed)
			}
			return f.call(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				created, err := c.Directory().Create(ctx, record, client.WriteOption{ValidateOnly: check})
				if err != nil {
					return err
				}
				return f.printRecord(cmd.OutOrStdout(), created)
			})
		},
	}
	rows := append(user.table(""), flagRow{"", "id", into(&id, "", checkID), "id; by default the server gives one"}, checkFlag(&check))
	addFlags(command, append(rows, f.table()...))
	return command
}

func checkID(text string) error {
	if text == "" {
		return nil
	}
	id, err := parseID(text)
	if err == nil && id == 0 {
		return usage("--id 0: an added user cannot have the id 0, which asks the server for one; roster import can give it")
	}
	return err
}
