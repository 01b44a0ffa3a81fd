package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"example.com/roster/client"
	"example.com/roster/internal/printable"
)

func newGetCommand() *cobra.Command {
	var f callFlags
	command := &cobra.Command{
		Use:   "get ID...",
		Short: "Look users up by id",
		Long: `Get asks a server for users and prints them in the order of the ids, a repeated
id each time. Unknown ids are left out; standard error then says how many were
found.

It calls MyService.User, and so works with every server of api.proto, also one
in Python. A look-up that fails because the server is unavailable is retried
within --timeout. Before an id below zero, write --.`,
		Example: `  roster get 1 2
  roster get 1 2 --output json | jq -r '.[].email'
  roster get 7 --server https://roster.example.com --protocol connect --timeout 5s
  roster get 7 --server https://localhost:50051 --ca cert.pem
  ROSTER_SERVER=http://10.0.0.5:50051 roster get 1`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := parseIDs(args)
			if err != nil {
				return err
			}
			return runGet(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), f, ids)
		},
	}
	addFlags(command, f.table())
	return command
}

func runGet(ctx context.Context, stdout, stderr io.Writer, f callFlags, ids []int32) error {
	var users []client.User
	err := f.call(ctx, func(ctx context.Context, c *client.Client) (err error) {
		users, err = c.Users(ctx, ids)
		return err
	})
	if err != nil {
		return err
	}
	if f.output == outputJSON {
		err = printJSON(stdout, users)
	} else {
		err = printUsers(stdout, users)
	}
	if err != nil {
		return err
	}
	if len(users) < len(ids) {
		fmt.Fprintf(stderr, "%d of %d ids found\n", len(users), len(ids))
	}
	return nil
}

// parseIDs returns the ids of the command line.
func parseIDs(args []string) ([]int32, error) {
	if len(args) == 0 {
		return nil, usage("give one id or more, as in: roster get 1 2")
	}
	ids := make([]int32, 0, len(args))
	for _, arg := range args {
		id, err := strconv.ParseInt(arg, 10, 32)
		if err != nil {
			return nil, usage("%q is not an id: ids are whole numbers from -2147483648 to 2147483647", arg)
		}
		ids = append(ids, int32(id))
	}
	return ids, nil
}

// printUsers writes a table of name, age and email.
func printUsers(w io.Writer, users []client.User) error {
	const columnGap = 2
	table := tabwriter.NewWriter(w, 0, 0, columnGap, ' ', 0)
	fmt.Fprintln(table, "NAME\tAGE\tEMAIL")
	for _, u := range users {
		fmt.Fprintf(table, "%s\t%d\t%s\n", printable.Line(u.Name), u.Age, printable.Line(u.Email))
	}
	return table.Flush()
}
