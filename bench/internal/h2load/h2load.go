// Package h2load runs nghttp2's load generator and reads what it reports. A
// run that is not all well is an error: a failed request, a status that is not
// 2xx, or an answer that has not the size of the right one.
package h2load

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Load is one load on one server.
type Load struct {
	URL     string
	Headers []string
	// Body is the file that every request sends.
	Body string
	// HTTP1 speaks HTTP/1.1: one request at a time on each connection.
	HTTP1                bool
	Connections, Streams int
	// ReplyBytes is what the body of every answer must have.
	ReplyBytes int
}

// WarmUp loads for about that time with nothing measured, and returns calls per
// second. It counts calls rather than time: h2load may hang at the end of a
// load that it has to break off.
func (l Load) WarmUp(ctx context.Context, d time.Duration) (float64, error) {
	_, rate, err := l.Closed(ctx, max(2*l.Connections, 300))
	if err != nil {
		return 0, err
	}
	_, rate, err = l.Closed(ctx, int(rate*d.Seconds()))
	return rate, err
}

// Closed makes about that many calls as fast as they go, and returns how many
// it made and how many that is per second.
func (l Load) Closed(ctx context.Context, calls int) (int, float64, error) {
	calls = l.whole(calls)
	out, err := l.run(ctx, fmt.Sprintf("--requests=%d", calls), l.URL)
	if err != nil {
		return 0, 0, err
	}
	return calls, out.rate, l.check(out, calls)
}

// Open makes calls at a rate for a time, at moments that do not wait for the
// answers before, and returns how long each took. The first tenth is left out:
// connections are made in it. The moments are those of a Poisson process, the
// same in every run; h2load keeps them to the millisecond.
func (l Load) Open(ctx context.Context, rate float64, d time.Duration, dir string) ([]time.Duration, error) {
	gap := float64(l.Connections) / rate // seconds between the calls of one connection
	calls := max(int(d.Seconds()/gap), 1)
	script, logFile := filepath.Join(dir, "h2load.script"), filepath.Join(dir, "h2load.log")
	if err := os.RemoveAll(logFile); err != nil {
		return nil, err
	}
	var lines bytes.Buffer
	random := rand.New(rand.NewPCG(1, 2))
	at := 0.0
	for range calls {
		at += random.ExpFloat64() * gap
		fmt.Fprintf(&lines, "%.3f\t%s\n", at*1000, l.URL)
	}
	if err := os.WriteFile(script, lines.Bytes(), 0o600); err != nil {
		return nil, err
	}
	// All connections follow the one script, so each starts a little later.
	stagger := min(max(200/l.Connections, 1), 7)
	out, err := l.run(ctx, fmt.Sprintf("--requests=%d", calls), "--timing-script-file="+script,
		"--rate=1", fmt.Sprintf("--rate-period=%dms", stagger), "--log-file="+logFile)
	if err != nil {
		return nil, err
	}
	if err := l.check(out, calls*l.Connections); err != nil {
		return nil, err
	}
	return readLog(logFile)
}

// whole rounds calls to the same number on every connection.
func (l Load) whole(calls int) int {
	return max(calls/l.Connections, 1) * l.Connections
}

func (l Load) check(out output, calls int) error {
	switch {
	case out.succeeded != calls || out.failed != 0 || out.ok != calls:
		return fmt.Errorf("h2load %s: %d calls, %d succeeded, %d failed, %d with status 2xx\n%s",
			l.URL, calls, out.succeeded, out.failed, out.ok, out.text)
	case out.data != int64(calls)*int64(l.ReplyBytes):
		return fmt.Errorf("h2load %s: %d calls brought %d bytes, the right answers have %d each",
			l.URL, calls, out.data, l.ReplyBytes)
	}
	return nil
}

// output is what h2load prints.
type output struct {
	rate                  float64
	succeeded, failed, ok int
	data                  int64
	text                  string
}

func (l Load) run(ctx context.Context, arguments ...string) (output, error) {
	arguments = append(arguments,
		fmt.Sprintf("--clients=%d", l.Connections),
		fmt.Sprintf("--max-concurrent-streams=%d", l.Streams),
		"--data="+l.Body)
	if l.HTTP1 {
		arguments = append(arguments, "--h1")
	}
	for _, header := range l.Headers {
		arguments = append(arguments, "--header="+header)
	}
	// A server that hangs fails the run rather than stopping it.
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	text, err := exec.CommandContext(ctx, "h2load", arguments...).CombinedOutput()
	if err != nil {
		return output{}, fmt.Errorf("h2load %s: %w\n%s", l.URL, err, text)
	}
	return parse(text)
}

var (
	finished = regexp.MustCompile(`(?m)^finished in .*, ([0-9.]+) req/s`)
	requests = regexp.MustCompile(`(?m)^requests: .* (\d+) succeeded, (\d+) failed`)
	statuses = regexp.MustCompile(`(?m)^status codes: (\d+) 2xx`)
	traffic  = regexp.MustCompile(`(?m)^traffic: .*\((\d+)\) data$`)
)

func parse(text []byte) (output, error) {
	out := output{text: string(text)}
	for _, field := range []struct {
		line *regexp.Regexp
		into []any
	}{
		{finished, []any{&out.rate}},
		{requests, []any{&out.succeeded, &out.failed}},
		{statuses, []any{&out.ok}},
		{traffic, []any{&out.data}},
	} {
		found := field.line.FindSubmatch(text)
		if found == nil {
			return out, fmt.Errorf("h2load printed no line like %s:\n%s", field.line, text)
		}
		for i, into := range field.into {
			if _, err := fmt.Sscan(string(found[i+1]), into); err != nil {
				return out, fmt.Errorf("h2load: %q: %w", found[0], err)
			}
		}
	}
	return out, nil
}

// readLog reads the times of the calls: tab-separated start, status and
// microseconds.
func readLog(file string) ([]time.Duration, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var times []time.Duration
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) < 3 {
			return nil, fmt.Errorf("%s: %q is not start, status and time", file, lines.Text())
		}
		micros, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		times = append(times, time.Duration(micros)*time.Microsecond)
	}
	return times[len(times)/10:], lines.Err()
}
