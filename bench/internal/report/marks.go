package report

import (
	"fmt"

	"example.com/roster/bench/internal/calls"
	"example.com/roster/bench/internal/peer"
	"example.com/roster/bench/internal/stats"
)

// Mark is one number that Roster is to keep.
type Mark struct {
	What        string
	Value, Most float64
	// Aim is a better mark than Most, 0 if there is none.
	Aim float64
}

// verdict is said plainly.
func (m Mark) verdict() string {
	switch {
	case m.Value == 0:
		return "not measured"
	case m.Value > m.Most:
		return fmt.Sprintf("**missed** by %.1f%%", (m.Value/m.Most-1)*100)
	case m.Aim > 0 && m.Value <= m.Aim:
		return fmt.Sprintf("met, and the aim of %.2f×", m.Aim)
	case m.Aim > 0:
		return fmt.Sprintf("met; the aim is %.2f×", m.Aim)
	}
	return "met"
}

// ratioOf is the median over the rounds of a value of one peer against that of
// another in the same round; 0 if no round has both.
func ratioOf[S any](samples map[string][]S, name, base string, value func(S) float64) float64 {
	var ratios []float64
	for i := range min(len(samples[name]), len(samples[base])) {
		a, b := value(samples[name][i]), value(samples[base][i])
		if a > 0 && b > 0 {
			ratios = append(ratios, a/b)
		}
	}
	return stats.Median(ratios)
}

// medianOf is the median over the rounds that have the value.
func medianOf[S any](samples []S, value func(S) float64) float64 {
	var values []float64
	for _, sample := range samples {
		if v := value(sample); v > 0 {
			values = append(values, v)
		}
	}
	return stats.Median(values)
}

func cpu(s *calls.Sample) float64 {
	if s == nil {
		return 0
	}
	return float64(s.CPU)
}

func p50(s *calls.Sample) float64 {
	if s == nil {
		return 0
	}
	return float64(s.P50)
}

func p99(s *calls.Sample) float64 {
	if s == nil {
		return 0
	}
	return float64(s.P99)
}

// marks are what issue 3 and issue 2 call done.
func (d *Data) marks() []Mark {
	two, thousand := d.Calls.Samples[calls.KeyTwo], d.Calls.Samples[calls.KeyThousand]
	marks := []Mark{
		{What: "CPU of a gRPC call of 2 ids at 8 × 16, against grpc-go, equal GC settings", Value: ratioOf(two, peer.Roster, peer.GRPC, cpu), Most: 0.9, Aim: 0.6},
		{What: "the same against connect-go on net/http", Value: ratioOf(two, peer.Roster, peer.Connect, cpu), Most: 0.35},
		{What: "the same with everything on (metrics, access log, traces of 1%, CORS), against grpc-go", Value: ratioOf(two, peer.RosterFull, peer.GRPC, cpu), Most: 0.9},
		{What: "CPU of all that, against Roster without", Value: ratioOf(two, peer.RosterFull, peer.RosterBare, cpu), Most: 1.15, Aim: 1.08},
		{What: "CPU of a gRPC call of 1,000 ids, against grpc-go", Value: ratioOf(thousand, peer.Roster, peer.GRPC, cpu), Most: 1, Aim: 0.5},
	}
	for _, c := range d.Calls.Cases {
		if c.Base() != peer.GRPC {
			continue
		}
		samples := d.Calls.Samples[c.Key]
		marks = append(marks,
			Mark{What: "CPU against grpc-go: " + c.Title, Value: ratioOf(samples, peer.Roster, peer.GRPC, cpu), Most: 1.1},
			Mark{What: "p99 against grpc-go: " + c.Title, Value: ratioOf(samples, peer.Roster, peer.GRPC, p99), Most: 1.1})
	}
	return append(marks,
		Mark{What: "CPU of a message of a server stream, against grpc-go", Value: ratioOf(d.Stream, peer.Roster, peer.GRPC, streamCPU), Most: 1.1},
		Mark{What: "p50 that a Python client sees, against grpc-go", Value: ratioOf(d.Python, peer.Roster, peer.GRPC, pythonP50), Most: 1.05},
		Mark{What: "p99 that a Python client sees, against grpc-go", Value: ratioOf(d.Python, peer.Roster, peer.GRPC, pythonP99), Most: 1.05},
		Mark{What: "memory of an idle connection, against grpc-go", Value: d.idleRatio(), Most: 0.8, Aim: 0.5},
		Mark{What: "time to import a large CSV, against the sqlite3 shell", Value: d.importRatio(), Most: 3},
		Mark{What: "memory of an import, against that of a tenth of the file", Value: d.importGrowth(), Most: 1.25},
	)
}

func (d *Data) idleRatio() float64 {
	if d.Idle[peer.GRPC] == 0 {
		return 0
	}
	return float64(d.Idle[peer.Roster]) / float64(d.Idle[peer.GRPC])
}

func (d *Data) importRatio() float64 {
	if d.Import == nil || len(d.Import.Shell) == 0 {
		return 0
	}
	return float64(stats.Median(d.Import.Roster)) / float64(stats.Median(d.Import.Shell))
}

func (d *Data) importGrowth() float64 {
	if d.Import == nil || d.Import.SmallMemory == 0 {
		return 0
	}
	return float64(d.Import.Memory) / float64(d.Import.SmallMemory)
}
