package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newRootCommand builds the command tree anew, so that runs share nothing.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "roster",
		Short: "A user directory on one port: gRPC, gRPC-Web, Connect and JSON",
		Long: `Roster answers who has which id: a caller sends ids and gets users.

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
		newGetCommand(),
		newHealthCommand(),
		newImportCommand(),
		newTokenCommand(),
		newVersionCommand(),
	)
	if man := newManCommand(); man != nil {
		root.AddCommand(man)
	}
	completeChoices(root)
	return root
}

// completeChoices has shells complete the flags that are a choice of words.
func completeChoices(root *cobra.Command) {
	choices := map[string][]string{
		"http2":      {"fast", "std"},
		"log-format": {"text", "json"},
		"log-level":  {"debug", "info", "warn", "error"},
		"on-bad-row": {"refuse", "skip"},
	}
	for _, command := range root.Commands() {
		command.Flags().VisitAll(func(flag *pflag.Flag) {
			if words, ok := choices[flag.Name]; ok {
				// It fails for a flag that is not there, or done twice.
				_ = command.RegisterFlagCompletionFunc(flag.Name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
			}
		})
	}
}

// noCommand refuses a word that is no subcommand.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usage("no command %q: did you mean %q?", args[0], near[0])
	}
	return usage("no command %q", args[0])
}

// noArguments is for commands that take flags alone.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%s takes no arguments, got %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// setFromEnvironment gives each flag that the command line leaves out the
// value of its ROSTER_… variable, if that is set and not empty.
func setFromEnvironment(flags *pflag.FlagSet) error {
	var failed error
	flags.VisitAll(func(flag *pflag.Flag) {
		if flag.Changed || failed != nil || flag.Name == "help" {
			return
		}
		name := environmentName(flag.Name)
		value := os.Getenv(name)
		if value == "" {
			return
		}
		if err := flags.Set(flag.Name, value); err != nil {
			failed = usage("%s=%q in the environment: %w", name, value, err)
		}
	})
	return failed
}

func environmentName(flag string) string {
	return "ROSTER_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}
