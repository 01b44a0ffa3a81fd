package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"example.com/roster/directory/sqlite"
)

func newRestoreCommand() *cobra.Command {
	var store string
	command := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup in the place of the store",
		Long: `Restore puts a copy of FILE, which roster backup made, in the place of the
store, or makes the store if there is none. Stop roster serve first: a store
that any process has open is refused.

Every page of the copy is checked before anything is changed. The store that
was there is kept beside it, with its log if it crashed, under the name that
restore prints: remove it when you no longer need it. It can be opened like any
store. FILE stays as it is.

The restored store is in another epoch: whoever has remembered a revision of
the store from before learns that it no longer means the same.`,
		Example: `  roster restore /backups/roster.db
  roster restore --store /var/lib/roster/roster.db /backups/roster-2026-01-31.db`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			restored, err := sqlite.Restore(cmd.Context(), args[0], storePath(store))
			switch {
			case err != nil && cmd.Context().Err() != nil:
				return fmt.Errorf("interrupted; %s was not restored", redactStore(store))
			case err != nil:
				return fmt.Errorf("%w; nothing was restored", err)
			}
			stderr := cmd.ErrOrStderr()
			fmt.Fprintf(stderr, "restored %s from %s into %s\n", quantity(restored.Users, "user", "users"), args[0], redactStore(store))
			if restored.Kept != "" {
				fmt.Fprintf(stderr, "the store that was there is kept as %s\n", restored.Kept)
			}
			return nil
		},
	}
	addFlags(command, []flagRow{{"", "store", into(&store, defaultStore, checkStore), storeHelp}})
	return command
}
