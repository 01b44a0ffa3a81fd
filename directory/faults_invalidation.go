//go:build roster_skip_invalidation

package directory

import "sync/atomic"

func faultyFeed(changes []Change) []Change { return changes }

var drops atomic.Int64

// faultyDrop leaves out one invalidation of the cache of a hundred.
func faultyDrop([]int32) bool { return drops.Add(1)%100 == 0 }
