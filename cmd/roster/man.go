//go:build man

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newManCommand writes the man pages, which say what --help says. It is for
// those who make packages, in a build of its own (make install): what formats
// them is half a megabyte of live memory in every process that has it linked.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIRECTORY",
		Short:  "Write the man pages into a folder",
		Hidden: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("%s takes one DIRECTORY, got %d", cmd.CommandPath(), len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("make the folder of the man pages: %w", err)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // the same source, the same pages
			header := &doc.GenManHeader{Title: "ROSTER", Section: "1", Source: "Roster " + buildVersion(), Manual: "Roster"}
			return doc.GenManTree(root, header, args[0])
		},
	}
}
