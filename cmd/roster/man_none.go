//go:build !man

package main

import "github.com/spf13/cobra"

// newManCommand returns nil, except in the build that makes the man pages.
func newManCommand() *cobra.Command { return nil }
