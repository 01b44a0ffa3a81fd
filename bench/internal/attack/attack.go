// Package attack does to an HTTP/2 server what hostile clients do, and measures what that does to
// the server and to a well-behaved caller beside it.
//
// It attacks 127.0.0.1 alone, a server that it has started, for as long as it is told.
package attack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/roster/bench/internal/measure"
	"example.com/roster/bench/internal/peer"
	"example.com/roster/server/h2/h2test"
)

const (
	// Connections is how many attack, and FloodConnections how many flood.
	Connections      = 4
	FloodConnections = 16
	// FloodStreams is how many calls each of those makes at a time.
	FloodStreams = 100
	// MostGrowth is what memory may grow by, in bytes. An attack is ended early at tooMuch: what it
	// shows is shown by then.
	MostGrowth = 64e6
	tooMuch    = 3 << 30
)

// attack is what a hostile client does. One with streams is a flood instead, which makes as many
// calls as the server answers, so many at a time on each connection.
type attack struct {
	h2test.Attack
	streams int
	flags   []string // more flags of the server

	parts []part  // of an attack on a bound, in place of Attack
	most  float64 // what memory may grow by in it, besides PerConnection
}

// floodTitles are the titles of the floods, calls of two ids without and with a rate limit. The
// well-behaved caller stays far below the limit.
var floodTitles = []string{"no rate limit", "`--rate-limit 1000 --rate-burst 100`"}

// Cases returns a case for each server, in which the attacks or the floods are what is compared.
func Cases(servers []string, floods bool) (cases []measure.Case) {
	attacks := make(map[string]attack)
	var titles []string
	if floods {
		titles = floodTitles
		flood := attack{Attack: h2test.Attack{Settings: h2test.WideWindow}, streams: FloodStreams}
		attacks[titles[0]] = flood
		flood.flags = strings.Fields(strings.Trim(titles[1], "`"))
		attacks[titles[1]] = flood
	} else {
		titles, attacks = boundAttacks()
		for i, a := range h2test.Attacks {
			titles = slices.Insert(titles, i, a.Title)
			attacks[a.Title] = attack{Attack: a}
		}
	}
	for _, name := range servers {
		cases = append(cases, measure.Case{
			Key: name, Title: peer.Title(name), What: "attack", Peers: titles,
			Columns: []measure.Column{
				{Title: "growth MB", Field: measure.Memory, Factor: 1e-6, Digits: 1}, {Title: "cut off", Field: measure.CutOff, Factor: 1},
				{Title: "calls", Field: measure.Calls, Factor: 1}, {Title: "failed", Field: measure.Failed, Factor: 1},
				{Title: "quiet p50 µs", Field: measure.QuietP50, Factor: 1e6}, {Title: "quiet p99 µs", Field: measure.QuietP99, Factor: 1e6},
				{Title: "p50 µs under attack", Field: measure.P50, Factor: 1e6}, {Title: "p99 µs under attack", Field: measure.P99, Factor: 1e6},
				{Title: "p50 µs after", Field: measure.AfterP50, Factor: 1e6},
				{Title: "answered, /s", Field: measure.Rate, Factor: 1}, {Title: "refused, /s", Field: measure.Refused, Factor: 1},
			},
			Measure: measure.Each(func(ctx context.Context, r *measure.Run, c measure.Case, title string) (measure.Sample, error) {
				return attacks[title].measure(ctx, r.Setup, c.Key, r.Duration)
			}),
			Verdict: func(title string, rounds []measure.Sample) string { return attacks[title].verdict(rounds) },
		})
	}
	return cases
}

// measure runs an attack on a new server. The well-behaved caller makes calls for a quiet time, the
// attack and a while after.
func (a attack) measure(ctx context.Context, setup *peer.Setup, name string, duration time.Duration) (sample measure.Sample, err error) {
	server, err := setup.Start(ctx, name, peer.Options{Flags: a.flags})
	if err != nil {
		return sample, err
	}
	defer server.Stop()
	quiet, connections := 1500*time.Millisecond, Connections
	if a.streams > 0 {
		quiet, connections = duration, FloodConnections
	}
	calls, err := startCaller(ctx, server.Addr, quiet+duration+after)
	if err != nil {
		return sample, err
	}
	sleep(ctx, quiet)
	before, err := server.RSS()
	if err != nil {
		return sample, err
	}
	attacking, end := context.WithTimeout(ctx, duration)
	defer end()
	began := time.Now()
	var all sync.WaitGroup
	var cutOff, answered, refused atomic.Int64
	if a.parts != nil {
		connections = 0
		all.Go(a.start(attacking, server.Addr, &cutOff))
	}
	for range connections {
		all.Go(func() {
			for attacking.Err() == nil {
				if err := a.once(attacking, server.Addr, &answered, &refused); err != nil && attacking.Err() == nil {
					cutOff.Add(1)
					// How fast a server that refuses can be called again is no measure of it.
					sleep(attacking, 5*time.Millisecond)
				}
			}
		})
	}
	growth := int64(0)
	for more := true; more; sleep(attacking, 20*time.Millisecond) {
		more = attacking.Err() == nil // once more when it is over
		rss, err := server.RSS()
		if err != nil {
			return sample, fmt.Errorf("the server has ended: %w", err)
		}
		if growth = max(growth, rss-before); growth > tooMuch {
			end()
		}
	}
	ended := time.Now()
	all.Wait()
	seen, err := calls()
	sample = judge(seen, began, ended)
	sample[measure.Memory], sample[measure.CutOff] = float64(growth), float64(cutOff.Load())
	sample[measure.Rate] = float64(answered.Load()) / duration.Seconds()
	sample[measure.Refused] = float64(refused.Load()) / duration.Seconds()
	return sample, err
}

// request asks for 10,000 users, some 450 KB.
var request = h2test.Request{Fields: h2test.Call("/MyService/User"), Large: measure.Request(10_000)}

// once attacks until the connection or the attack ends.
func (a attack) once(ctx context.Context, addr string, answered, refused *atomic.Int64) error {
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	for range max(a.Many, 1) {
		// Its own address, so that a limit for each caller tells it from the well-behaved one.
		dialer := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		// The end of the attack ends every write and read under way.
		context.AfterFunc(ctx, func() { conn.Close() })
		c := h2test.New(bufio.NewReadWriter(bufio.NewReaderSize(conn, 4<<10), bufio.NewWriterSize(conn, 16<<10)))
		if !a.Bare {
			if err := errors.Join(c.Hello(a.Settings...), c.Flush()); err != nil {
				return err
			}
		}
		if a.streams > 0 {
			return c.Pump(a.streams, "/MyService/User", measure.Request(2), func() bool { return ctx.Err() == nil }, func(ok bool) {
				if ok {
					answered.Add(1)
				} else {
					refused.Add(1)
				}
			})
		}
		if !a.Silent {
			readers.Go(func() {
				_, _ = io.Copy(io.Discard, conn)
				cancel()
			})
		}
		if err := a.run(ctx, c); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (a attack) run(ctx context.Context, c *h2test.Client) error {
	if a.Start != nil {
		if err := a.Start(c, request); err != nil {
			return err
		}
	}
	for n := 0; a.Step != nil && ctx.Err() == nil; n++ {
		if err := a.Step(c, request); err != nil {
			return err
		}
		// The network is given a few hundred at a time.
		if n%256 == 0 {
			if err := c.Flush(); err != nil {
				return err
			}
		}
	}
	return c.Flush()
}

// verdict says which marks of an attack were missed in its rounds.
func (a attack) verdict(rounds []measure.Sample) string {
	var missed []string
	var times []float64
	for _, s := range rounds {
		if s[measure.Calls] == 0 {
			missed = append(missed, "not measured")
		}
		if over := s[measure.Memory] - a.bound(); over > 0 && a.streams == 0 {
			missed = append(missed, fmt.Sprintf("memory by %.0f MB", over/1e6))
		}
		if s[measure.Failed] > 0 {
			missed = append(missed, fmt.Sprintf("%.0f calls failed", s[measure.Failed]))
		}
		// Latency is back if the median is at most twice the quiet one, or the quiet p99.
		if s[measure.AfterP50] > max(2*s[measure.QuietP50], s[measure.QuietP99]) && a.streams == 0 && a.parts == nil {
			missed = append(missed, "latency not back")
		}
		times = append(times, s[measure.P99]/s[measure.QuietP99])
	}
	if t := measure.Median(times); a.flags != nil && t > 2 {
		missed = append(missed, fmt.Sprintf("p99 is %.2f times the quiet one", t))
	}
	switch {
	case a.streams > 0 && a.flags == nil:
		return "no mark"
	case len(missed) > 0:
		return "**missed**: " + strings.Join(missed, ", ")
	}
	if a.streams > 0 {
		return "met"
	}
	return fmt.Sprintf("met, ≤ %.0f MB", a.bound()/1e6)
}

// bound is what memory may grow by, in bytes.
func (a attack) bound() float64 {
	if a.parts == nil {
		return MostGrowth
	}
	return a.most + PerConnection*float64(a.connections())
}

// Missed is an error that names the attacks of which a mark was missed.
func Missed(r *measure.Run) error {
	var missed []string
	for _, c := range r.Cases {
		for _, title := range c.Peers {
			if verdict := c.Verdict(title, r.Samples[c.Key][title]); strings.HasPrefix(verdict, "**missed**") {
				missed = append(missed, title+": "+verdict)
			}
		}
	}
	if missed == nil {
		return nil
	}
	return fmt.Errorf("%d marks were missed: %s", len(missed), strings.Join(missed, "; "))
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
