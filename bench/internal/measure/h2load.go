package measure

import (
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

// load is one load of h2load, nghttp2's load generator, on one server. A run of it that is not all
// well is an error: a failed request, a status that is not 2xx, or an answer that does not have the
// size of the right one.
type load struct {
	ids                  int
	payload              int // bytes of a message of EchoService, in place of ids
	connections, streams int
	codec                codec // gRPC unless told otherwise
	http1, tls           bool

	url, dir   string
	replyBytes int
}

// header is the fields of a request, as "name: value".
func (l load) header() []string {
	second := "connect-protocol-version: 1"
	if l.codec.contentType == grpcProto.contentType {
		second = "te: trailers"
	}
	return []string{"content-type: " + l.codec.contentType, second}
}

// warmUp makes calls for about a time, and returns how many per second. It counts calls rather than
// time: h2load may hang at the end of a load that it has to break off.
func (l load) warmUp(ctx context.Context, d time.Duration) (float64, error) {
	_, rate, err := l.closed(ctx, max(2*l.connections, 300))
	if err != nil {
		return 0, err
	}
	_, rate, err = l.closed(ctx, int(rate*d.Seconds()))
	return rate, err
}

// closed makes about that many calls as fast as they go, and returns how many it made and how many
// that is per second.
func (l load) closed(ctx context.Context, calls int) (int, float64, error) {
	calls = max(calls/l.connections, 1) * l.connections
	rate, err := l.run(ctx, calls, fmt.Sprintf("--requests=%d", calls), l.url)
	return calls, rate, err
}

// open makes calls at a rate for a time, at moments that do not wait for earlier answers, and
// returns how long each took. The first tenth is left out: connections are made in it. The moments
// are those of a Poisson process, the same in every run; h2load keeps them to the millisecond.
func (l load) open(ctx context.Context, rate float64, d time.Duration) ([]time.Duration, error) {
	gap := float64(l.connections) / rate // seconds between the calls of one connection
	calls := max(int(d.Seconds()/gap), 1)
	script, log := filepath.Join(l.dir, "script"), filepath.Join(l.dir, "log")
	var lines bytes.Buffer
	random := rand.New(rand.NewPCG(1, 2))
	at := 0.0
	for range calls {
		at += random.ExpFloat64() * gap
		fmt.Fprintf(&lines, "%.3f\t%s\n", at*1000, l.url)
	}
	if err := os.WriteFile(script, lines.Bytes(), 0o600); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(log); err != nil {
		return nil, err
	}
	// All connections follow the one script, so each starts a little later.
	stagger := min(max(200/l.connections, 1), 7)
	if _, err := l.run(ctx, calls*l.connections, fmt.Sprintf("--requests=%d", calls), "--timing-script-file="+script,
		"--rate=1", fmt.Sprintf("--rate-period=%dms", stagger), "--log-file="+log); err != nil {
		return nil, err
	}
	times, err := readLog(log)
	if err != nil {
		return nil, err
	}
	return times[len(times)/10:], nil
}

// timed makes calls as closed does, and returns how long each took.
func (l load) timed(ctx context.Context, calls int) (int, []time.Duration, error) {
	log := filepath.Join(l.dir, "log")
	if err := os.RemoveAll(log); err != nil {
		return 0, nil, err
	}
	calls = max(calls/l.connections, 1) * l.connections
	if _, err := l.run(ctx, calls, fmt.Sprintf("--requests=%d", calls), l.url, "--log-file="+log); err != nil {
		return 0, nil, err
	}
	times, err := readLog(log)
	return calls, times, err
}

// readLog returns how long each call took by h2load's log.
func readLog(log string) (times []time.Duration, err error) {
	text, err := os.ReadFile(log)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line) // start, status, microseconds
		if len(fields) < 3 {
			return nil, fmt.Errorf("h2load's log: %q is not start, status and time", line)
		}
		micros, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("h2load's log: %w", err)
		}
		times = append(times, time.Duration(micros)*time.Microsecond)
	}
	return times, nil
}

// run runs h2load, and returns calls per second.
func (l load) run(ctx context.Context, calls int, arguments ...string) (float64, error) {
	arguments = append(arguments, fmt.Sprintf("--clients=%d", l.connections),
		fmt.Sprintf("--max-concurrent-streams=%d", l.streams), "--data="+filepath.Join(l.dir, "body"))
	if l.http1 {
		arguments = append(arguments, "--h1")
	}
	for _, field := range l.header() {
		arguments = append(arguments, "--header="+field)
	}
	// A server that hangs fails the run rather than stopping it.
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	text, err := exec.CommandContext(ctx, "h2load", arguments...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("h2load %s: %w\n%s", l.url, err, text)
	}
	return l.check(text, calls)
}

var printed = regexp.MustCompile(`(?s)\nfinished in [^\n]*, ([0-9.]+) req/s.*` +
	`\nrequests: [^\n]* (\d+) succeeded, (\d+) failed.*\nstatus codes: (\d+) 2xx.*\ntraffic: [^\n]*\((\d+)\) data\n`)

// check reads what h2load printed: calls must all have succeeded, with answers of the right size.
func (l load) check(text []byte, calls int) (float64, error) {
	found := printed.FindSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("h2load %s printed no results:\n%s", l.url, text)
	}
	want := []int{calls, 0, calls, calls * l.replyBytes}
	for i, name := range []string{"succeeded", "failed", "have status 2xx", "bytes were answered"} {
		if got := string(found[i+2]); got != strconv.Itoa(want[i]) {
			return 0, fmt.Errorf("h2load %s: of %d calls, %s %s, want %d\n%s", l.url, calls, got, name, want[i], text)
		}
	}
	return strconv.ParseFloat(string(found[1]), 64)
}
