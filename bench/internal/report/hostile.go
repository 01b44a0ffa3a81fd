package report

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"example.com/roster/bench/internal/attack"
	"example.com/roster/bench/internal/peer"
	"example.com/roster/bench/internal/soak"
)

// AttackData is what `make bench-attacks` measured, by server.
type AttackData struct {
	Header   Header
	Duration time.Duration
	Peers    []string
	Results  map[string][]attack.Result
}

// mostGrowth is what Roster's memory may grow by under an attack.
const mostGrowth = 64e6

// WriteAttacks writes the section.
func WriteAttacks(docs string, d *AttackData) error {
	var w writer
	w.header("Attacks", d.Header)
	w.line("%d connections attack a server for %v, while a well-behaved grpc-go client in another process calls it every 5 ms.", attack.Connections, d.Duration)
	w.line("Wanted: resident memory grows by no more than 64 MB, no call of that client fails, and in the second half of the")
	w.line("second after the attack its p50 is back (at most twice the quiet p50, or no more than the quiet p99). The attackers")
	w.line("share the cores with the server and the caller, so latency under attack is partly theirs.\n")
	for _, name := range d.Peers {
		w.line("### %s\n", peer.Title(name))
		var rows [][]string
		for _, r := range d.Results[name] {
			growth := fmt.Sprintf("%.1f", float64(r.Growth)/1e6)
			if r.Cut {
				growth = "over " + growth
			}
			rows = append(rows, []string{
				r.Title, growth, fmt.Sprint(r.Reconnects), fmt.Sprintf("%d of %d", r.Caller.Failed, r.Caller.Calls),
				micros(float64(r.Caller.QuietP50), 0), micros(float64(r.Caller.QuietP99), 0), micros(float64(r.Caller.DuringP99), 0),
				micros(float64(r.Caller.AfterP50), 0), attackVerdict(r),
			})
		}
		w.table([]string{"attack", "growth MB", "cut off", "failed calls", "quiet p50 µs", "quiet p99 µs", "p99 µs under attack", "p50 µs after", "verdict"}, rows)
	}
	return WriteSection(filepath.Join(docs, "benchmarks.md"), SectionAttacks, w.String())
}

func attackVerdict(r attack.Result) string {
	var missed []string
	if r.Died {
		missed = append(missed, "the server ended")
	}
	if r.Growth > mostGrowth {
		missed = append(missed, fmt.Sprintf("memory by %.0f MB", (float64(r.Growth)-mostGrowth)/1e6))
	}
	if r.Caller.Failed > 0 {
		missed = append(missed, fmt.Sprintf("%d calls failed", r.Caller.Failed))
	}
	if !r.Caller.Recovered() {
		missed = append(missed, "latency not back")
	}
	if len(missed) == 0 {
		return "met"
	}
	return "**missed**: " + strings.Join(missed, ", ")
}

// WriteSoak writes the section.
func WriteSoak(docs string, h Header, r *soak.Result) error {
	var w writer
	w.header("Soak", h)
	w.line("%v of mixed load on Roster's own handler chain and server, built with the race detector, with a bench-only stream mounted.\n", r.Duration)
	var rows [][]string
	names := make([]string, 0, len(r.Done))
	for name := range r.Done {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		rows = append(rows, []string{name, thousands(float64(r.Done[name]))})
	}
	w.table([]string{"load", "done"}, rows)
	state := func(when string, s soak.State) []string {
		return []string{when, fmt.Sprint(s.Goroutines), megabytes(float64(s.Heap)), megabytes(float64(s.Stacks)),
			megabytes(float64(s.Memory)), fmt.Sprint(s.Threads), fmt.Sprint(s.Files)}
	}
	w.table([]string{"at rest", "goroutines", "heap MB", "stacks MB", "resident MB", "threads", "open files"},
		[][]string{state("before", r.Before), state(fmt.Sprintf("%v after", r.Settled), r.After)})
	var most []string
	for _, bytes := range r.MostMemory {
		most = append(most, fmt.Sprintf("%.0f", float64(bytes)/1e6))
	}
	w.line("Most resident under load, MB, in each tenth of the time: %s. A stream that is left has a goroutine, so goroutines count streams too.\n", strings.Join(most, ", "))
	if leaks := r.Leaks(); len(leaks) > 0 {
		w.line("**Missed**: %s.", strings.Join(leaks, "; "))
	} else {
		w.line("Met: no data race, no call that went wrong, and no more goroutines, heap or files than before.")
	}
	return WriteSection(filepath.Join(docs, "benchmarks.md"), SectionSoak, w.String())
}
