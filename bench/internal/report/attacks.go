package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/roster/bench/internal/attack"
	"example.com/roster/bench/internal/measure"
	"example.com/roster/bench/internal/peer"
)

// Attacks is what attacks did to servers, by server and attack, a result for each round.
type Attacks struct {
	Duration time.Duration
	Servers  []string
	Attacks  []attack.Attack
	Rounds   map[string]map[string][]attack.Result
}

const attacksIntro = `## Attacks

%[1]s

%[2]d connections attack a server for %[3]v, while a well-behaved grpc-go client in another process calls it every 5 ms.
Wanted: resident memory grows by no more than %[4]d MB, no call of that client fails, and in the second half of the
second after the attack its p50 is back (at most twice the quiet p50, or no more than the quiet p99). The attackers
share the cores with the server and the caller, so latency under attack is partly theirs.

`

const floodIntro = `## A flood

%[1]s

One caller makes calls of 2 ids as fast as it can, on %[5]d connections with %[6]d at a time; another, a grpc-go client at
another address, makes one every 5 ms. %[3]v quiet, then %[3]v of flood, each on a new server; medians of %[7]d rounds. All of them share the cores
with the server. Wanted with the rate limit: the other caller's p99 under the flood is at most twice its quiet p99,
and none of its calls fails.

`

// Write writes the section of make bench-attacks or make bench-flood. A number is the median of the
// rounds.
func (d *Attacks) Write(docs, section, made string) error {
	intro := attacksIntro
	if section == "bench-flood" {
		intro = floodIntro
	}
	text := fmt.Sprintf(intro, made, attack.Connections, d.Duration, int(attack.MostGrowth/1e6), attack.FloodConnections, attack.FloodStreams, len(d.Rounds[d.Servers[0]][d.Attacks[0].Key]))
	for _, name := range d.Servers {
		var rows [][]string
		for _, a := range d.Attacks {
			rows = append(rows, d.row(a, d.Rounds[name][a.Key]))
		}
		text += "### " + peer.Title(name) + "\n\n" + table([]string{"attack", "growth MB", "cut off", "failed calls", "quiet p50 µs", "quiet p99 µs",
			"p50 µs under attack", "p99 µs under attack", "p50 µs after", "answered, /s", "refused, /s", "verdict"}, rows)
	}
	return writeSection(docs, section, text)
}

func (d *Attacks) row(a attack.Attack, rounds []attack.Result) []string {
	median := func(digits int, of func(attack.Result) float64) string {
		var values []float64
		for _, r := range rounds {
			values = append(values, of(r))
		}
		return number(measure.Median(values), digits)
	}
	micros := func(of func(attack.Caller) time.Duration) string {
		return median(0, func(r attack.Result) float64 { return float64(of(r.Caller)) / 1e3 })
	}
	failed, calls := 0, 0
	for _, r := range rounds {
		failed, calls = failed+r.Caller.Failed, calls+r.Caller.Calls
	}
	growth := median(1, func(r attack.Result) float64 { return float64(r.Growth) / 1e6 })
	if slices.ContainsFunc(rounds, func(r attack.Result) bool { return r.Stopped }) {
		growth = "over " + growth
	}
	verdict := "met"
	if missed := a.Missed(rounds); len(missed) > 0 {
		verdict = "**missed**: " + strings.Join(missed, ", ")
	}
	return []string{a.Title, growth,
		median(0, func(r attack.Result) float64 { return float64(r.CutOff) }), fmt.Sprintf("%d of %d", failed, calls),
		micros(func(c attack.Caller) time.Duration { return c.QuietP50 }), micros(func(c attack.Caller) time.Duration { return c.QuietP99 }),
		micros(func(c attack.Caller) time.Duration { return c.DuringP50 }), micros(func(c attack.Caller) time.Duration { return c.DuringP99 }),
		micros(func(c attack.Caller) time.Duration { return c.AfterP50 }),
		median(0, func(r attack.Result) float64 { return float64(r.Answered) / d.Duration.Seconds() }),
		median(0, func(r attack.Result) float64 { return float64(r.Refused) / d.Duration.Seconds() }), verdict}
}
