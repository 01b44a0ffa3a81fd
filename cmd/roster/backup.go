package main

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"example.com/roster/directory/sqlite"
)

func newBackupCommand() *cobra.Command {
	var store string
	var overwrite bool
	command := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the store into a file, also while it is served",
		Long: `Backup copies the store into FILE, complete and as it is at one moment. It may
be served and changed meanwhile, and nobody waits for the backup.

FILE is one file, readable by you alone. It appears under its name when it is
whole and every page of it has been checked. If it exists, it is refused, or
with --overwrite replaced. Put it on another disk, or better another machine.

A copy of the store by cp while it is served is not a backup: it lacks what is
in the log beside the store, and can be empty. roster restore brings a backup
back.`,
		Example: `  roster backup /backups/roster-$(date +%F).db
  roster backup --overwrite --store /var/lib/roster/roster.db /backups/roster.db`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			began := time.Now()
			made, err := sqlite.Backup(cmd.Context(), storePath(store), args[0], overwrite)
			switch {
			case cmd.Context().Err() != nil:
				return fmt.Errorf("interrupted; %s was not made", args[0])
			case errors.Is(err, fs.ErrExist):
				return fmt.Errorf("%w: give another name, or --overwrite to replace it", err)
			case err != nil:
				return fmt.Errorf("%w; no backup was made", err)
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "backed up %s of %s into %s, checked, in %v\n",
				quantity(made.Users, "user", "users"), redactStore(store), args[0], time.Since(began).Round(time.Millisecond))
			return err
		},
	}
	addFlags(command, []flagRow{
		{"", "store", into(&store, defaultStore, checkStore), storeHelp},
		{"", "overwrite", into(&overwrite, false, nil), "replace FILE if it exists, once the new backup is whole"},
	})
	return command
}

// oneFile is for commands that take one FILE.
func oneFile(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) != 1:
		return usage("%s takes one FILE, got %d", cmd.CommandPath(), len(args))
	case args[0] == "" || args[0] == "-":
		return usage("%s takes a file, not %q", cmd.CommandPath(), args[0])
	}
	return nil
}
