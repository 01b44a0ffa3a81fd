package report

import (
	"cmp"
	"embed"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"example.com/roster/bench/internal/attack"
	"example.com/roster/bench/internal/measure"
	"example.com/roster/bench/internal/peer"
)

// mark is one ratio that Roster is to keep.
type mark struct {
	what       string
	key        string
	name, base string
	field      measure.Field
	most       float64
	aim        float64 // better than most, 0 if there is none
}

// marks returns the marks of a run.
func marks(r *measure.Run) []mark {
	marks := []mark{
		{"CPU of a gRPC call of 2 ids at 8 × 16, against grpc-go, equal GC settings", measure.Two, peer.Roster, peer.GRPC, measure.CPU, 0.9, 0.6},
		{"the same against connect-go on net/http", measure.Two, peer.Roster, peer.Connect, measure.CPU, 0.35, 0},
		{"the same with everything on (metrics, access log, traces of 1%, CORS), against grpc-go", measure.Two, peer.RosterFull, peer.GRPC, measure.CPU, 0.9, 0},
		{"CPU of all that, against Roster without", measure.Two, peer.RosterFull, peer.RosterBare, measure.CPU, 1.15, 1.08},
		{"CPU of a gRPC call of 1,000 ids, against grpc-go", measure.Thousand, peer.Roster, peer.GRPC, measure.CPU, 1, 0.5},
	}
	for _, c := range r.Cases {
		if strings.HasPrefix(c.Key, "grpc-") {
			marks = append(marks, mark{"CPU against grpc-go: " + c.Title, c.Key, peer.Roster, peer.GRPC, measure.CPU, 1.1, 0},
				mark{"p99 against grpc-go: " + c.Title, c.Key, peer.Roster, peer.GRPC, measure.P99, 1.1, 0})
		}
	}
	return append(marks,
		mark{"CPU of a message of a server stream, against grpc-go", measure.Stream, peer.Roster, peer.GRPC, measure.CPU, 1.1, 0},
		mark{"p50 that a Python client sees, against grpc-go", measure.Python, peer.Roster, peer.GRPC, measure.P50, 1.05, 0},
		mark{"p99 that a Python client sees, against grpc-go", measure.Python, peer.Roster, peer.GRPC, measure.P99, 1.05, 0},
		mark{"memory of an idle connection, against grpc-go", measure.Idle, peer.Roster, peer.GRPC, measure.Memory, 0.8, 0.5},
		mark{"time to import a large CSV, against the sqlite3 shell", measure.Import, measure.RosterImport, measure.Shell, measure.Took, 3, 0},
		mark{"memory of an import, against that of a tenth of the file", measure.Import, measure.RosterImport, measure.RosterSmall, measure.Memory, 1.25, 0},
	)
}

func (m mark) verdict(value float64) string {
	switch {
	case value == 0:
		return "not measured"
	case value > m.most:
		return fmt.Sprintf("**missed** by %.1f%%", (value/m.most-1)*100)
	case m.aim > 0 && value <= m.aim:
		return "met, and the aim of " + ratio(m.aim)
	case m.aim > 0:
		return "met; the aim is " + ratio(m.aim)
	}
	return "met"
}

//go:embed text
var texts embed.FS

// WriteRun writes what a run of the given section measured, and the plot. Made says how it was.
func WriteRun(docs, section, made string, r *measure.Run) error {
	text := "## Calls, streams, connections, imports\n\n" + made + "\n\n" + versions() + ".\n\n" +
		"![CPU and memory of the servers](benchmarks.svg)\n\n" +
		"### The marks\n\nRoster as shipped, as a ratio; lower is better. A ratio is the median of the rounds' own ratios.\n\n"
	how, err := method(r)
	if err != nil {
		return err
	}
	text += markTable(r, marks(r)) + how
	for _, c := range r.Cases {
		text += caseTable(r, c)
	}
	if err := writePlot(filepath.Join(docs, "benchmarks.svg"), made, r); err != nil {
		return err
	}
	return writeSection(docs, section, text)
}

func markTable(r *measure.Run, marks []mark) string {
	var rows [][]string
	for _, m := range marks {
		value := r.Ratio(m.key, m.name, m.base, m.field)
		rows = append(rows, []string{m.what, ratio(value), "≤ " + ratio(m.most), m.verdict(value)})
	}
	return table([]string{"mark", "measured", "wanted", "verdict"}, rows)
}

// WriteAttacks writes the section of make bench-attacks or make bench-flood.
func WriteAttacks(docs, section, made string, r *measure.Run) error {
	intro, err := texts.ReadFile("text/" + section + ".md")
	if err != nil {
		return err
	}
	text := fill(string(intro), "{made}", made, "{floodConnections}", attack.FloodConnections,
		"{streams}", attack.FloodStreams, "{duration}", r.Duration, "{growth}", attack.MostGrowth/1e6, "{sum}", attack.MostSum/1e6, "{rounds}", r.Rounds)
	for _, c := range r.Cases {
		text += caseTable(r, c)
	}
	return writeSection(docs, section, text+failures(r))
}

func caseTable(r *measure.Run, c measure.Case) string {
	head := []string{cmp.Or(c.What, "server")}
	for _, column := range c.Columns {
		if head = append(head, column.Title); column.Ratio {
			head = append(head, "×")
		}
	}
	if c.Verdict != nil {
		head = append(head, "verdict")
	}
	var rows [][]string
	for _, name := range c.Peers {
		row := []string{peer.Title(name)}
		for _, column := range c.Columns {
			value := number(r.Median(c.Key, name, column.Field)*column.Factor, column.Digits)
			if column.Field.Count() && value == number(0, 0) {
				value = "0"
			}
			row = append(row, value)
			if column.Ratio {
				row = append(row, ratio(r.Ratio(c.Key, name, c.Peers[0], column.Field)))
			}
		}
		if c.Verdict != nil {
			row = append(row, c.Verdict(name, r.Samples[c.Key][name]))
		}
		rows = append(rows, row)
	}
	return "### " + c.Title + "\n\n" + strings.TrimPrefix(c.Intro+"\n\n", "\n\n") + table(head, rows)
}

func method(r *measure.Run) (string, error) {
	text, err := texts.ReadFile("text/method.md")
	filled := fill(string(text), "{rounds}", r.Rounds, "{duration}", r.Duration, "{cores}", runtime.NumCPU())
	return filled + leftOut(r) + failures(r) + "\n", err
}

func leftOut(r *measure.Run) (text string) {
	for _, name := range slices.Sorted(maps.Keys(r.Missing)) {
		text += "- Without " + peer.Title(name) + ": " + r.Setup.Without[name] + ".\n"
	}
	return text
}

func failures(r *measure.Run) (text string) {
	for _, failure := range r.Failures {
		text += "- **Failed**: " + failure + "\n"
	}
	return text
}
