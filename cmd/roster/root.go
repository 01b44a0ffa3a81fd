package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newRootCommand builds the command tree anew, so that runs share nothing.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "roster",
		Short: "A user directory on one port: gRPC, gRPC-Web, Connect and JSON",
		Long: `Roster is a user directory: callers look users up, list, change and watch them.

One port speaks gRPC to Python and Go programs, gRPC-Web and Connect to
browsers, and JSON to curl.

Every flag has an environment variable: --max-batch is ROSTER_MAX_BATCH.
The command line wins over the environment.`,
		Example: `  roster serve --sample
  roster get 1 2
  roster add --name "Ann Lee" --age 31 --email ann@example.com
  roster import users.csv`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Name() != "serve" && cmd.Name() != "bridge" { // which have a log for it
				for _, unknown := range unknownVariables(cmd.Root()) {
					if unknown.meant != "" { // the environment of a person may have anything
						fmt.Fprintf(cmd.ErrOrStderr(), "roster: %s\n", unknown)
					}
				}
			}
			return setFromEnvironment(cmd.Flags())
		},
		Version: buildVersion(),
	}
	root.SetVersionTemplate(versionLine())
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(newHelpCommand())
	root.AddCommand(
		newServeCommand(),
		newBridgeCommand(),
		newGetCommand(),
		newHealthCommand(),
		newListCommand(),
		newAddCommand(),
		newUpdateCommand(),
		newRemoveCommand(),
		newWatchCommand(),
		newLogCommand(),
		newImportCommand(),
		newExportCommand(),
		newBackupCommand(),
		newRestoreCommand(),
		newCheckCommand(),
		newTokenCommand(),
		newVersionCommand(),
	)
	root.InitDefaultCompletionCmd()
	for _, command := range root.Commands() {
		if command.Name() == "completion" { // cobra's own, which takes any word for a reason to print its help
			command.Args = noCommand
			command.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
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
	var names []string
	for _, command := range cmd.Commands() {
		if command.IsAvailableCommand() || command.Name() == "help" {
			names = append(names, command.Name())
		}
	}
	if near := nearest(args[0], names); near != "" {
		return usage("no command %q: did you mean %q?", redactStore(args[0]), near)
	}
	return usage("no command %q", redactStore(args[0]))
}

// flagError is an error in the flags of a command. An unknown flag gets a suggestion.
func flagError(cmd *cobra.Command, err error) error {
	unknown, value := (*pflag.NotExistError)(nil), (*pflag.InvalidValueError)(nil)
	if errors.As(err, &value) && errors.As(value.Unwrap(), new(*strconv.NumError)) {
		what := "must be a number"
		if errors.Is(value.Unwrap(), strconv.ErrRange) {
			what = "is too large"
		} else if value.GetFlag().Value.Type() == "int" {
			what = "must be a whole number"
		}
		return usage("--%s %s: %s", value.GetFlag().Name, value.GetValue(), what)
	}
	if !errors.As(err, &unknown) {
		return usageError{err}
	}
	if name := unknown.GetSpecifiedName(); len(name) == 1 && name[0] >= '0' && name[0] <= '9' {
		return usage("%w: before an id below zero, write --", err)
	}
	var names []string
	cmd.Flags().VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
	if near := nearest(unknown.GetSpecifiedName(), names); near != "" && len(unknown.GetSpecifiedName()) > 1 {
		return usage("%w: did you mean --%s?", err, near)
	}
	return usageError{err}
}

// newHelpCommand returns cobra's own command, but for a topic that does not exist, which is wrong usage.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Print what a command does, and its flags",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
			about, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			for _, command := range about.Commands() {
				if command.IsAvailableCommand() {
					names = append(names, cobra.CompletionWithDesc(command.Name(), command.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				if about == nil || len(rest) == 0 {
					about, rest = cmd.Root(), args
				}
				return noCommand(about, rest)
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// noArguments is for commands that take only flags.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%s takes no arguments, got %q", cmd.CommandPath(), redactStore(args[0]))
	}
	return nil
}
