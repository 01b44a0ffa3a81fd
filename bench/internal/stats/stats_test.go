package stats

import "testing"

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []int64
		want   int64
	}{
		{nil, 0},
		{[]int64{3}, 3},
		{[]int64{9, 1, 5}, 5},
		{[]int64{9, 1, 5, 3}, 4},
	} {
		if got := Median(c.values); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.values, got, c.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	values := make([]int64, 100)
	for i := range values {
		values[i] = int64(100 - i)
	}
	for _, c := range []struct {
		p    float64
		want int64
	}{{0, 1}, {0.5, 51}, {0.99, 100}, {1, 100}} {
		if got := Percentile(values, c.p); got != c.want {
			t.Errorf("Percentile(1…100, %v) = %v, want %v", c.p, got, c.want)
		}
	}
}
