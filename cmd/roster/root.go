package main

import "github.com/spf13/cobra"

// newRootCommand builds the command tree anew, so that runs share nothing.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "roster",
		Short: "A user directory on one port: gRPC, gRPC-Web, Connect and JSON",
		Long: `Roster is a user directory: a caller sends ids and gets users.

One port speaks gRPC to Python and Go programs, gRPC-Web and Connect to
browsers, and JSON to curl.

Every flag has an environment variable: --max-batch is ROSTER_MAX_BATCH.
The command line wins over the environment.`,
		Example: `  roster serve --sample
  roster get 1 2
  roster import users.csv`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return setFromEnvironment(cmd.Flags())
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		newServeCommand(),
		newBridgeCommand(),
		newGetCommand(),
		newHealthCommand(),
		newImportCommand(),
		newTokenCommand(),
		newVersionCommand(),
	)
	if man := newManCommand(); man != nil {
		root.AddCommand(man)
	}
	return root
}

// noCommand refuses a word that is not a subcommand.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usage("no command %q: did you mean %q?", redactStore(args[0]), near[0])
	}
	return usage("no command %q", redactStore(args[0]))
}

// noArguments is for commands that take only flags.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%s takes no arguments, got %q", cmd.CommandPath(), redactStore(args[0]))
	}
	return nil
}
