//go:build roster_sync_less

package sqlite

// synchronous has the log synced only before it is moved into the file.
const synchronous = "NORMAL"
