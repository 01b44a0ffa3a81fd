// Package stats is the little arithmetic of the benchmarks.
package stats

import (
	"cmp"
	"slices"
)

// Number is what can be averaged here.
type Number interface {
	cmp.Ordered
	~int64 | ~float64
}

// Median returns the middle of values, the mean of both middles for an even
// count, and 0 for none.
func Median[N Number](values []N) N {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Percentile returns the least value that p (0 to 1) of all values do not
// exceed, and 0 for none. It sorts values.
func Percentile[N Number](values []N, p float64) N {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(len(values)-1, int(p*float64(len(values))))]
}
