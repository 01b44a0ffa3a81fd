package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"example.com/roster/client"
)

const filterHelp = `which users: name = "Ann*", email = "ann@*", or both with AND between them; * at the end stands for any text, and case does not count`

func newListCommand() *cobra.Command {
	var f callFlags
	var query client.Query
	var limit int
	command := &cobra.Command{
		Use:   "list",
		Short: "List users",
		Long: `List asks a server for its users, page by page, and prints them as they come. A
user that is there from the first page to the last is printed once, whatever is
written meanwhile; in the order of names, one that is renamed meanwhile may be
printed twice or not at all.

It needs roster.v1, which Roster has, and a Python server has not. --timeout
holds for each page.`,
		Example: `  roster list --limit 20
  roster list --filter 'name = "Ann*" AND email = "*"' --order-by name
  roster list --output json | jq -r '.[].email'`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runList(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), f, query, limit)
		},
	}
	addFlags(command, append([]flagRow{
		{"", "filter", into(&query.Filter, "", nil), filterHelp},
		{"", "order-by", into(&query.OrderBy, "id", nil).completedBy("id", "name", "id desc", "name desc"), `order: id, name, "id desc" or "name desc"`},
		{"", "limit", into(&limit, 0, notBelowZero), "most users to print; 0 is no limit"},
		{"", "total", into(&query.Total, false, nil), "say on standard error how many users match in all"},
	}, f.table()...))
	return command
}

func notBelowZero(n int) error {
	if n < 0 {
		return errors.New("must not be negative")
	}
	return nil
}

func runList(ctx context.Context, stdout, stderr io.Writer, f callFlags, query client.Query, limit int) error {
	const most = 1000 // of a page
	out := bufio.NewWriter(stdout)
	array := jsonArray{w: out}
	err := f.connect(func(c *client.Client) error {
		directory := c.Directory()
		for printed, first := 0, true; ; first = false {
			query.PageSize = most
			if limit > 0 {
				query.PageSize = int32(min(most, limit-printed))
			}
			call, cancel := context.WithTimeout(ctx, f.timeout)
			page, err := directory.ListPage(call, query)
			cancel()
			if err != nil {
				return err
			}
			if first && query.Total {
				fmt.Fprintf(stderr, "%s in all\n", quantity(page.Total, "user", "users"))
			}
			query.Total = false
			if f.output == outputJSON {
				for _, user := range page.Users {
					if err := array.add(user); err != nil {
						return err
					}
				}
			} else if err := printRecords(out, page.Users, first); err != nil {
				return err
			}
			printed += len(page.Users)
			query.PageToken = page.NextToken
			if query.PageToken == "" || limit > 0 && printed >= limit {
				break
			}
			if err := out.Flush(); err != nil {
				return err
			}
		}
		if f.output == outputJSON {
			return array.end()
		}
		return nil
	})
	return errors.Join(err, out.Flush())
}
