//go:build !man

package main

import "github.com/spf13/cobra"

// newManCommand is nil but in the build that makes the man pages.
func newManCommand() *cobra.Command { return nil }
