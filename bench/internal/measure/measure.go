// Package measure measures the peers: unary calls under load, a Python client, server streams, idle
// connections and imports. Every case is a row of one table, and every measurement has one shape,
// so that the page can be written from the table.
package measure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/roster/bench/internal/peer"
)

// Field is what one number of a Sample is.
type Field int

// The fields: times are in seconds, memory is in bytes.
const (
	CPU  Field = iota // the server's CPU time, for one call or message
	Rate              // calls or messages per second
	P50
	P99
	Memory
	Took
	Added // P50 beyond that of a call without a proxy
	// Of attacks, in which P50 and P99 are of calls during the attack, Rate is the calls of a flood
	// that are answered, and Memory is growth.
	QuietP50
	QuietP99
	AfterP50
	Refused
	CutOff
	Calls
	Failed
	fields
)

// Count tells whether 0 is a value and not something that was not measured.
func (f Field) Count() bool { return f >= CutOff }

// Sample is what one round measured of one peer in one case. What was not measured is 0.
type Sample [fields]float64

// Column is one column of a case's table: the field times a factor.
type Column struct {
	Title  string
	Field  Field
	Factor float64
	Digits int
	// Ratio puts a column beside it, of the ratio to the first peer.
	Ratio bool
}

// Case is one thing to measure.
type Case struct {
	Key, Title string
	// Intro stands above the table in the page.
	Intro string
	// What is compared: "server" if it is empty.
	What string
	// Peers are in the order in which they are measured, the one to compare with first.
	Peers   []string
	Columns []Column
	// PlotTitle is over the plot of the first column. A case without one is not plotted.
	PlotTitle string

	// Verdict says what has become of a peer, if it is not nil.
	Verdict func(name string, rounds []Sample) string
	Measure MeasureFunc

	load  load
	ownGC bool // each server's own GC settings
}

// MeasureFunc measures every peer of a case once. What fails is noted as a failure and left out.
type MeasureFunc func(ctx context.Context, r *Run, c Case) map[string]Sample

// Run measures cases, and has the results.
type Run struct {
	Setup    *peer.Setup
	Rounds   int
	Duration time.Duration
	// PythonCalls is how many calls of each server a Python client makes in a round, Connections
	// how many idle, and Rows how many rows are imported.
	PythonCalls, Connections, Rows int
	Say                            func(format string, arguments ...any)

	Cases []Case
	// Samples are by case and peer, one for each round.
	Samples map[string]map[string][]Sample
	// Failures says what could not be measured, and why.
	Failures []string
	// Missing are the peers that are left out.
	Missing map[string]bool

	offered map[string]float64 // the load of a case in calls per second at which P50 and P99 are measured
}

// Do measures the cases that only names, all of them if it is empty. In each round all peers of all
// cases have their turn.
func (r *Run) Do(ctx context.Context, cases []Case, only []string) error {
	r.Samples, r.offered, r.Missing = make(map[string]map[string][]Sample), make(map[string]float64), make(map[string]bool)
	for _, c := range cases {
		if len(only) > 0 && !slices.Contains(only, c.Key) {
			continue
		}
		c.Peers = slices.DeleteFunc(slices.Clone(c.Peers), func(name string) bool {
			missing := r.Setup.Without[name] != ""
			if missing {
				r.Missing[name] = true
			}
			return missing
		})
		r.Cases = append(r.Cases, c)
		r.Samples[c.Key] = make(map[string][]Sample)
	}
	for round := range r.Rounds {
		for _, c := range r.Cases {
			samples := c.Measure(ctx, r, c)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			for _, name := range c.Peers {
				r.Samples[c.Key][name] = append(r.Samples[c.Key][name], samples[name])
				line := fmt.Sprintf("round %d  %-24s %-28s", round+1, c.Key, name)
				for _, column := range c.Columns {
					line += fmt.Sprintf("  %.*f %s", column.Digits, samples[name][column.Field]*column.Factor, column.Title)
				}
				r.Say("%s", line)
			}
		}
	}
	for i, c := range r.Cases {
		if offered := r.offered[c.Key]; offered > 0 {
			r.Cases[i].Intro = fmt.Sprintf("Offered for p50 and p99: %.0f calls/s; %s", offered, c.Intro)
		}
	}
	return nil
}

func (r *Run) fail(c Case, name string, err error) {
	r.Say("FAILED %s, %s: %v", c.Title, name, err)
	line, _, _ := strings.Cut(err.Error(), "\n")
	r.Failures = append(r.Failures, fmt.Sprintf("%s, %s: %s", c.Title, peer.Title(name), line))
}

// Err is an error if something could not be measured.
func (r *Run) Err() error {
	if len(r.Failures) == 0 {
		return nil
	}
	return fmt.Errorf("%d measurements failed, the first: %s", len(r.Failures), r.Failures[0])
}

// Each measures the peers of a case one after the other.
func Each(one func(ctx context.Context, r *Run, c Case, name string) (Sample, error)) MeasureFunc {
	return func(ctx context.Context, r *Run, c Case) map[string]Sample {
		samples := make(map[string]Sample)
		for _, name := range c.Peers {
			sample, err := one(ctx, r, c, name)
			if err != nil && ctx.Err() == nil {
				r.fail(c, name, err)
				continue
			}
			samples[name] = sample
		}
		return samples
	}
}

// usage returns the CPU time that a server uses while work is done, in seconds.
func usage(server *peer.Server, work func() error) (float64, error) {
	before, err := server.CPU()
	if err != nil {
		return 0, err
	}
	err = work()
	after, cpuErr := server.CPU()
	return (after - before).Seconds(), errors.Join(err, cpuErr)
}

// Median returns the middle of the values that are not 0, the mean of both middles for an even
// count, and 0 for none.
func Median(values []float64) float64 {
	values = slices.DeleteFunc(slices.Sorted(slices.Values(values)), func(v float64) bool { return v == 0 })
	if len(values) == 0 {
		return 0
	}
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// Percentile returns the smallest value that the share p (0 to 1) of all values do not exceed, and
// 0 for none. It sorts values.
func Percentile(values []time.Duration, p float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(len(values)-1, int(p*float64(len(values))))]
}

// Median returns the median over the rounds of a field of one peer.
func (r *Run) Median(key, name string, field Field) float64 {
	var values []float64
	for _, sample := range r.Samples[key][name] {
		values = append(values, sample[field])
	}
	return Median(values)
}

// Ratio returns the median over the rounds of a field of one peer against that of another in the
// same round; 0 if no round has both.
func (r *Run) Ratio(key, name, base string, field Field) float64 {
	var ratios []float64
	for i := range min(len(r.Samples[key][name]), len(r.Samples[key][base])) {
		if against := r.Samples[key][base][i][field]; against > 0 {
			ratios = append(ratios, r.Samples[key][name][i][field]/against)
		}
	}
	return Median(ratios)
}
