package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"example.com/roster/directory/sqlite"
)

func newCheckCommand() *cobra.Command {
	var store string
	command := &cobra.Command{
		Use:   "check",
		Short: "Look for damage in the store, and for users that break the rules",
		Long: `Check reads the whole store, which may be served meanwhile, and prints a line
for each fault: a damaged page, or a user whose name, age or email breaks the
rules of this version (see roster import --help). It changes nothing.

The rules bind what is written. Users from before a rule, or written by another
program, stay served until they are replaced: import them anew, or remove them.

The exit code is 0 if nothing was found, and else 1.`,
		Example: `  roster check
  roster check --store /var/lib/roster/roster.db`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			faults := int64(0)
			found, err := sqlite.Check(cmd.Context(), storePath(store), func(fault string) {
				faults++
				fmt.Fprintln(cmd.OutOrStdout(), fault)
			})
			switch {
			case cmd.Context().Err() != nil:
				return fmt.Errorf("%s: interrupted", redactStore(store))
			case err != nil:
				return err
			case faults > 0:
				return fmt.Errorf("%s has %s", redactStore(store), quantity(faults, "fault", "faults"))
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s is in order: %s, revision %d, epoch %s\n",
				redactStore(store), quantity(found.Users, "user", "users"), found.Revision, found.Epoch)
			return err
		},
	}
	addFlags(command, []flagRow{{"", "store", into(&store, defaultStore, checkStore), storeHelp}})
	return command
}
