package measure

import (
	"testing"
	"time"
)

const output = `starting benchmark...

finished in 1.21s, 41234.50 req/s, 3.93MB/s
requests: 50000 total, 50000 started, 50000 done, 50000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 50000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 4.77MB (5000420) total, 390.75KB (400125) headers (space savings 95.56%), 3.10MB (3250000) data
                     min         max         mean         sd        +/- sd
`

func TestCheckRefusesWhatIsNotAllWell(t *testing.T) {
	if rate, err := (load{replyBytes: 65}).check([]byte(output), 50000); rate != 41234.5 || err != nil {
		t.Errorf("a good load: %v, %v", rate, err)
	}
	for name, bad := range map[string]struct {
		text              string
		calls, replyBytes int
	}{
		"a call too few":          {output, 50001, 65},
		"answers of another size": {output, 50000, 64},
		"output without a result": {"could not connect\n", 50000, 65},
	} {
		if _, err := (load{replyBytes: bad.replyBytes}).check([]byte(bad.text), bad.calls); err == nil {
			t.Errorf("%s passed", name)
		}
	}
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	r := &Run{Samples: map[string]map[string][]Sample{"case": {
		"a": {{CPU: 10}, {CPU: 40}, {}},
		"b": {{CPU: 20}, {CPU: 80}, {CPU: 1}},
	}}}
	if got := r.Ratio("case", "a", "b", CPU); got != 0.5 {
		t.Errorf("ratio %v, want 0.5: each round against its own, a failed one left out", got)
	}
	if got := r.Ratio("case", "a", "c", CPU); got != 0 {
		t.Errorf("ratio %v against a peer that was not measured, want 0", got)
	}
	if got := Median([]float64{9, 0, 1, 5, 3}); got != 4 {
		t.Errorf("median %v, want 4: the mean of both middles, without the 0", got)
	}
}

func TestPercentile(t *testing.T) {
	if got := Percentile([]time.Duration{4, 3, 2, 1}, 0.5); got != 3 {
		t.Errorf("the median of four is %d, want 3", got)
	}
}
