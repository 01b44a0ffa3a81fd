//go:build !roster_skip_revision && !roster_skip_invalidation

package directory

// The harness in e2e/faults proves itself on builds with these faults.

func faultyFeed(changes []Change) []Change { return changes }

func faultyDrop([]int32) bool { return false }
