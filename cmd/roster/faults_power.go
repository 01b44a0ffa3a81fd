//go:build roster_power_cut

package main

import "example.com/roster/e2e/faults/powercut"

// The harness in e2e/faults takes back what this build has written and not synced.
func init() { powercut.Install() }
