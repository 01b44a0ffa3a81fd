package report

import (
	"fmt"
	"path/filepath"
	"time"

	"example.com/roster/bench/internal/flood"
	"example.com/roster/bench/internal/stats"
)

// FloodData is what `make bench-flood` measured.
type FloodData struct {
	Header             Header
	Duration           time.Duration
	Unlimited, Limited []flood.Sample
}

// WriteFlood writes the section.
func WriteFlood(docs string, d *FloodData) error {
	var w writer
	w.header("A flood", d.Header)
	w.line("One caller makes calls of 2 ids as fast as it goes, %d connections with %d at a time; another, a grpc-go client at", flood.Connections, flood.Streams)
	w.line("another address, makes one every 5 ms. %v quiet, then %v of flood, each on a new server; medians of %d rounds. All of them",
		d.Duration, d.Duration, len(d.Limited))
	w.line("share the cores with the server. Wanted: with `--rate-limit %s --rate-burst %s` the other caller's p99 under the flood is at most", flood.RateLimit, flood.RateBurst)
	w.line("twice its quiet p99, and none of its calls fails.\n")
	var rows [][]string
	for _, row := range []struct {
		title   string
		samples []flood.Sample
	}{{"no rate limit", d.Unlimited}, {"`--rate-limit " + flood.RateLimit + " --rate-burst " + flood.RateBurst + "`", d.Limited}} {
		if len(row.samples) == 0 {
			continue
		}
		median := func(of func(flood.Sample) float64) float64 {
			var values []float64
			for _, s := range row.samples {
				values = append(values, of(s))
			}
			return stats.Median(values)
		}
		failed, calls := 0, 0
		for _, s := range row.samples {
			failed, calls = failed+s.Failed, calls+s.Calls
		}
		second := d.Duration.Seconds()
		rows = append(rows, []string{
			row.title,
			micros(median(func(s flood.Sample) float64 { return float64(s.QuietP50) }), 0),
			micros(median(func(s flood.Sample) float64 { return float64(s.FloodP50) }), 0),
			micros(median(func(s flood.Sample) float64 { return float64(s.QuietP99) }), 0),
			micros(median(func(s flood.Sample) float64 { return float64(s.FloodP99) }), 0),
			fmt.Sprintf("%.2f", median(flood.Sample.Times)),
			fmt.Sprintf("%d of %d", failed, calls),
			thousands(median(func(s flood.Sample) float64 { return float64(s.Count.Answered) / second })),
			thousands(median(func(s flood.Sample) float64 { return float64(s.Count.Refused) / second })),
			floodVerdict(row.title == "no rate limit", median(flood.Sample.Times), failed),
		})
	}
	w.table([]string{"server", "p50 µs quiet", "p50 µs in the flood", "p99 µs quiet", "p99 µs in the flood", "times", "failed calls",
		"flood answered, /s", "flood refused, /s", "verdict"}, rows)
	return WriteSection(filepath.Join(docs, "benchmarks.md"), SectionFlood, w.String())
}

func floodVerdict(unlimited bool, times float64, failed int) string {
	switch {
	case unlimited:
		return "no mark"
	case failed > 0:
		return fmt.Sprintf("**missed**: %d calls failed", failed)
	case times > 2:
		return fmt.Sprintf("**missed**: %.2f times", times)
	}
	return "met"
}
