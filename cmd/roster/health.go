package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"example.com/roster/client"
)

func newHealthCommand() *cobra.Command {
	var f callFlags
	command := &cobra.Command{
		Use:   "health",
		Short: "Ask a server whether it can answer",
		Long: `Health asks a server once whether it can answer. If it can, the exit code is 0.
If not, the exit code is 1 and standard error says what is wrong: nothing
listens, only one side speaks TLS, it is not a gRPC server, it does not answer
within --timeout, and so on.

It calls MyService.Health, and so works with every server of api.proto, also
one in Python.`,
		Example: `  roster health
  roster health --server http://10.0.0.5:50051 --timeout 200ms
  roster health --protocol connect --output json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runHealth(cmd.Context(), cmd.OutOrStdout(), f)
		},
	}
	addFlags(command, f.table())
	return command
}

func runHealth(ctx context.Context, stdout io.Writer, f callFlags) error {
	err := f.call(ctx, func(ctx context.Context, c *client.Client) error { return c.Health(ctx) })
	if err != nil {
		return err
	}
	if f.output == outputJSON {
		return printJSON(stdout, struct {
			Server  string `json:"server"`
			Healthy bool   `json:"healthy"`
		}{f.server, true})
	}
	_, err = fmt.Fprintf(stdout, "%s is healthy\n", f.server)
	return err
}
