package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"example.com/roster/client"
	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/gen/go/roster/v1/rosterv1connect"
	"example.com/roster/internal/printable"
)

func newGetCommand() *cobra.Command {
	var f callFlags
	command := &cobra.Command{
		Use:   "get ID...",
		Short: "Look users up by id",
		Long: `Get asks a server for users and prints them in the order of the ids, a repeated
id each time. Ids may be separated by commas, and 5-9 is a range. Unknown ids
are left out; standard error then says how many were found and, if the server
has roster.v1, which were not. If none was found, the exit code is 1.

It calls MyService.User, and so works with every server of api.proto, also one
in Python. A look-up that fails because the server is unavailable is retried
within --timeout. Before an id below zero, write --.`,
		Example: `  roster get 1 2
  roster get 1,2 5-9 -- -5
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
	return f.call(ctx, func(ctx context.Context, c *client.Client) error {
		users, err := c.Users(ctx, ids)
		if err != nil {
			return err
		}
		if f.output == outputJSON {
			err = printJSON(stdout, users)
		} else {
			err = printUsers(stdout, users)
		}
		if err != nil || len(users) >= len(ids) {
			return err
		}
		return sayUnknown(ctx, stderr, c, ids, len(users))
	})
}

// maxUnknown is how many unknown ids are named.
const maxUnknown = 20

// sayUnknown says how many ids were not found and, if the server can tell, which. MyService.User does
// not say whose a user is; BatchGetUsers of roster.v1 does, and a server in Python does not have it.
func sayUnknown(ctx context.Context, stderr io.Writer, c *client.Client, ids []int32, found int) error {
	distinct := slices.Compact(slices.Sorted(slices.Values(ids)))
	if found == 0 {
		return fmt.Errorf("not found: %s", joinIDs(distinct))
	}
	text := fmt.Sprintf("%d of %s found", found, counted(len(ids), "id"))
	if unknown, err := unknownIDs(ctx, c, distinct); err == nil && len(unknown) > 0 {
		text += "; not found: " + joinIDs(unknown)
	}
	fmt.Fprintln(stderr, text)
	return nil
}

// unknownIDs returns those of ids that nobody has.
func unknownIDs(ctx context.Context, c *client.Client, ids []int32) (unknown []int32, err error) {
	const most = 10_000 // ids in one request (roster/v1/directory.proto)
	directory := rosterv1connect.NewDirectoryServiceClient(c.Endpoint())
	for some := range slices.Chunk(ids, most) {
		reply, err := directory.BatchGetUsers(ctx, &rosterv1.BatchGetUsersRequest{Ids: some})
		if err != nil {
			return nil, err
		}
		unknown = append(unknown, reply.GetUnknownIds()...)
	}
	return unknown, nil
}

func joinIDs(ids []int32) string {
	var text []string
	for _, id := range ids[:min(len(ids), maxUnknown)] {
		text = append(text, strconv.Itoa(int(id)))
	}
	if more := len(ids) - maxUnknown; more > 0 {
		text = append(text, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(text, ", ")
}

// printUsers writes a table of name, age and email.
func printUsers(w io.Writer, users []client.User) error {
	const columnGap = 2
	var text bytes.Buffer // a table is written cell by cell
	table := tabwriter.NewWriter(&text, 0, 0, columnGap, ' ', 0)
	fmt.Fprintln(table, "NAME\tAGE\tEMAIL")
	for _, u := range users {
		fmt.Fprintf(table, "%s\t%d\t%s\n", printable.Line(u.Name), u.Age, printable.Line(u.Email))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := w.Write(text.Bytes())
	return err
}
