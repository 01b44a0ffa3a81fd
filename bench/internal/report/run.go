package report

import (
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"example.com/roster/bench/internal/calls"
	"example.com/roster/bench/internal/importer"
	"example.com/roster/bench/internal/peer"
	"example.com/roster/bench/internal/python"
	"example.com/roster/bench/internal/stats"
	"example.com/roster/bench/internal/stream"
)

// Data is all that `make bench` measured. What is nil was not.
type Data struct {
	Header   Header
	Rounds   int
	Duration time.Duration
	// Quick tells that the run is too short for its numbers to be quoted.
	Quick bool
	// Without says which peers are left out, and why.
	Without map[string]string
	// NoTLS tells that this Roster has no TLS.
	NoTLS bool

	Calls           *calls.Results
	Python          map[string][]python.Sample
	PythonCalls     int
	Stream          map[string][]stream.Sample
	Idle            map[string]int64
	IdleConnections int
	Import          *importer.Result
	// Engine is what `go test -bench` printed of the HTTP/2 engine alone.
	Engine string
}

func pythonP50(s python.Sample) float64  { return float64(s.P50) }
func pythonP99(s python.Sample) float64  { return float64(s.P99) }
func streamCPU(s stream.Sample) float64  { return float64(s.CPU) }
func streamRate(s stream.Sample) float64 { return s.Rate }

// WriteRun writes the section and the plot.
func WriteRun(docs string, d *Data) error {
	if err := writePlot(filepath.Join(docs, "benchmarks.svg"), d); err != nil {
		return err
	}
	return WriteSection(filepath.Join(docs, "benchmarks.md"), SectionRun, d.text())
}

func (d *Data) text() string {
	var w writer
	w.header("Calls, streams, connections, imports", d.Header)
	if d.Quick {
		w.line("**A quick run**, made to see that everything runs. Its numbers are too few to quote.\n")
	}
	w.line("%s.\n", strings.Join(d.Header.Versions, ", "))
	w.line("![CPU and memory of the servers](benchmarks.svg)\n")
	d.writeMarks(&w)
	d.writeMethod(&w)
	for _, c := range d.Calls.Cases {
		d.writeCase(&w, c)
	}
	d.writePython(&w)
	d.writeStream(&w)
	d.writeIdle(&w)
	d.writeImport(&w)
	if d.Engine != "" {
		w.line("### The engine alone\n\n`go test -bench . -benchmem ./server/h2`:\n\n```\n%s\n```\n", strings.TrimSpace(d.Engine))
	}
	return w.String()
}

func (d *Data) writeMarks(w *writer) {
	w.line("### The marks\n\nRoster as shipped, as a ratio; lower is better. A ratio is the median of the rounds' own ratios.\n")
	var rows [][]string
	for _, m := range d.marks() {
		rows = append(rows, []string{m.What, ratio(m.Value), fmt.Sprintf("≤ %.2f×", m.Most), m.verdict()})
	}
	w.table([]string{"mark", "measured", "wanted", "verdict"}, rows)
}

func (d *Data) writeMethod(w *writer) {
	w.line("### How it is measured\n")
	w.line(`- Every server is a process of its own on 127.0.0.1, started anew for each
  measurement. Rounds: %d; in each of them all servers have their turn, and a
  number is the median of the rounds. Roster is the binary that `+"`make build`"+` makes, as
  `+"`roster serve`"+` runs it, with its SQLite store, cache, limits and logging; the
  other servers have the users in memory and their libraries' defaults.
- Before a measurement a real client calls the server, and the users that it
  answers are compared. After it h2load must have counted no failure, status
  2xx alone, and exactly the bytes that right answers have.
- CPU is user and system time of the server with its children, from /proc, over
  the calls of a load of about %v as fast as the server answers. calls/s is of
  that load; h2load runs on the same cores, so it is no limit of a server.
- p50 and p99 are at the load offered, the same for all servers of a case: calls
  at Poisson moments that wait for no answer, kept to the millisecond by h2load.
  %s means that the server does not carry that load.
- memory is resident after all that (PSS, children included).
- Equal GC settings are GOGC=100 and GOMAXPROCS=%d for every server in Go; its
  own settings are what it does when told nothing, which for a server that sets
  nothing itself is the same, and differs by the noise of the run.
- nginx answers a constant of the same size, and does nothing else: a mark.
- grpc-go tuned has stream workers and fixed windows; the shared write buffer
  is its default by now. grpc-gateway calls the grpc-go service in its own
  process.
`, d.Rounds, d.Duration, none, runtime.NumCPU())
	for _, name := range slices.Sorted(mapKeys(d.Without)) {
		w.line("- Without %s: %s.", peer.Title(name), d.Without[name])
	}
	if d.NoTLS {
		w.line("- Without TLS: this `roster serve` has no --tls-cert.")
	}
	for _, failure := range d.Calls.Failures {
		w.line("- **Failed**: %s", failure)
	}
	w.line("")
}

func (d *Data) writeCase(w *writer, c calls.Case) {
	w.line("### %s\n", c.Title)
	samples := d.Calls.Samples[c.Key]
	gc := "equal GC settings"
	if c.GC == peer.Default {
		gc = "each server's own GC settings"
	}
	w.line("Offered for p50 and p99: %.0f calls/s; %s; × is against %s.\n", d.Calls.Offered[c.Key], gc, peer.Title(c.Base()))
	var rows [][]string
	for _, name := range c.Peers {
		mine := samples[name]
		memory := medianOf(mine, func(s *calls.Sample) float64 {
			if s == nil {
				return 0
			}
			return float64(s.Memory)
		})
		rate := medianOf(mine, func(s *calls.Sample) float64 {
			if s == nil {
				return 0
			}
			return s.Rate
		})
		rows = append(rows, []string{
			peer.Title(name), micros(medianOf(mine, cpu), 1), ratio(ratioOf(samples, name, c.Base(), cpu)),
			thousands(rate), micros(medianOf(mine, p50), 0), micros(medianOf(mine, p99), 0),
			ratio(ratioOf(samples, name, c.Base(), p99)), megabytes(memory),
		})
	}
	w.table([]string{"server", "CPU µs/call", "×", "calls/s", "p50 µs", "p99 µs", "×", "memory MB"}, rows)
}

func (d *Data) writePython(w *writer) {
	if d.Python == nil {
		return
	}
	w.line("### An unchanged Python client\n\ngrpcio, `User` of 2 ids, one call after the other, %d calls of each server in a round, in blocks that take turns.\n", d.PythonCalls)
	var rows [][]string
	for _, name := range python.Peers {
		if mine, ok := d.Python[name]; ok {
			rows = append(rows, []string{
				peer.Title(name), micros(medianOf(mine, pythonP50), 0), ratio(ratioOf(d.Python, name, peer.GRPC, pythonP50)),
				micros(medianOf(mine, pythonP99), 0), ratio(ratioOf(d.Python, name, peer.GRPC, pythonP99)),
			})
		}
	}
	w.table([]string{"server", "p50 µs", "×", "p99 µs", "×"}, rows)
}

func (d *Data) writeStream(w *writer) {
	if d.Stream == nil {
		return
	}
	w.line("### A server stream of small messages\n\n%d connections, a stream of some %v on each, read by grpc-go's client as fast as it can; Roster with the stream mounted on its own handler chain.\n",
		stream.Connections, d.Duration)
	var rows [][]string
	for _, name := range stream.Peers {
		if mine, ok := d.Stream[name]; ok {
			rows = append(rows, []string{
				peer.Title(name), micros(medianOf(mine, streamCPU), 2), ratio(ratioOf(d.Stream, name, peer.GRPC, streamCPU)),
				thousands(medianOf(mine, streamRate)),
			})
		}
	}
	w.table([]string{"server", "CPU µs/message", "×", "messages/s"}, rows)
}

func (d *Data) writeIdle(w *writer) {
	if d.Idle == nil {
		return
	}
	w.line("### Idle connections\n\n%s connections that have made one call each; what the server's resident memory grew by, for each.\n", thousands(float64(d.IdleConnections)))
	var rows [][]string
	for _, name := range []string{peer.GRPC, peer.Roster, peer.RosterStd, peer.Connect, peer.GRPCTuned, peer.Tonic, peer.Nginx} {
		if bytes, ok := d.Idle[name]; ok {
			rows = append(rows, []string{peer.Title(name), fmt.Sprintf("%.1f", float64(bytes)/1000), ratio(float64(bytes) / float64(d.Idle[peer.GRPC]))})
		}
	}
	w.table([]string{"server", "KB/connection", "×"}, rows)
}

func (d *Data) writeImport(w *writer) {
	if d.Import == nil {
		return
	}
	i := d.Import
	w.line("### Import into SQLite\n\nA CSV file of %s rows into a new store, in turns with the sqlite3 shell's `.import --csv` of the same file into the same table without its revision column.\n", thousands(float64(i.Rows)))
	w.table([]string{"program", "seconds", "×"}, [][]string{
		{"`roster import`", fmt.Sprintf("%.2f", stats.Median(i.Roster).Seconds()), ratio(d.importRatio())},
		{"sqlite3 `.import`", fmt.Sprintf("%.2f", stats.Median(i.Shell).Seconds()), "1.00×"},
	})
	w.line("`roster import` had at most %s MB resident for %s rows, and %s MB for %s.\n",
		megabytes(float64(i.SmallMemory)), thousands(float64(i.SmallRows)), megabytes(float64(i.Memory)), thousands(float64(i.Rows)))
}
