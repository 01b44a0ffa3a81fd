//go:build man

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// newManCommand returns the command that writes the man pages, which say what --help says. It is
// for those who make packages, in a build of its own (make install): the code that formats the
// pages would take half a megabyte of live memory in every process.
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
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return err
			}
			return addHeadings(root, args[0])
		},
	}
}

// addHeadings puts the groups of flags into the man pages of command and its subcommands.
func addHeadings(command *cobra.Command, folder string) error {
	for _, sub := range command.Commands() {
		if err := addHeadings(sub, folder); err != nil {
			return err
		}
	}
	groups := flagGroups(command)
	if len(groups) < 2 {
		return nil
	}
	page := filepath.Join(folder, strings.ReplaceAll(command.CommandPath(), " ", "-")+".1")
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	for _, group := range groups {
		first := ""
		group.flags.VisitAll(func(flag *pflag.Flag) {
			if first == "" {
				first = flag.Name
			}
		})
		// A flag is a paragraph that begins with its name in bold.
		flag := regexp.MustCompile(`(?m)^(\.PP\n)?(\\fB-\w\\fP, )?\\fB--` + first + `\\fP`)
		at := flag.FindIndex(text)
		if at == nil {
			return fmt.Errorf("%s has no flag --%s", page, first)
		}
		text = slices.Insert(text, at[0], []byte(".SS "+group.title+"\n")...)
	}
	return os.WriteFile(page, text, 0o644)
}
