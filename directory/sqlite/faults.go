//go:build !roster_sync_less

package sqlite

// synchronous is when a write is on disk: before it is acknowledged, so that a power cut does not lose it.
// The harness in e2e/faults proves itself on a build that promises less.
const synchronous = "FULL"
