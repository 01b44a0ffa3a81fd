//go:build roster_skip_revision

package directory

// faultyFeed loses one revision out of a hundred.
func faultyFeed(changes []Change) []Change {
	var kept []Change
	for i := range changes {
		if changes[i].Revision%100 != 0 {
			kept = append(kept, changes[i])
		}
	}
	return kept
}

func faultyDrop([]int32) bool { return false }
