package report

import (
	"embed"
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
	Count    int // of the rounds
	Servers  []string
	Attacks  []attack.Attack
	Rounds   map[string]map[string][]attack.Result
}

//go:embed text
var texts embed.FS

// Write writes the section of make bench-attacks or make bench-flood. A number is the median of the
// rounds.
func (d *Attacks) Write(docs, section, made string) error {
	intro, err := texts.ReadFile("text/" + section + ".md")
	if err != nil {
		return err
	}
	connections := attack.Connections
	if section == "bench-flood" {
		connections = attack.FloodConnections
	}
	text := fill(string(intro), "{made}", made, "{connections}", connections, "{streams}", attack.FloodStreams,
		"{duration}", d.Duration, "{growth}", attack.MostGrowth/1e6, "{rounds}", d.Count)
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
