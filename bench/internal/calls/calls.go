package calls

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"example.com/roster/bench/internal/h2load"
	"example.com/roster/bench/internal/peer"
	"example.com/roster/bench/internal/sample"
	"example.com/roster/bench/internal/stats"
	"example.com/roster/bench/internal/verify"
)

// Sample is what one round measured of one peer in one case.
type Sample struct {
	// CPU is the server's time for one call, at full load.
	CPU time.Duration
	// Rate is calls per second at full load.
	Rate float64
	// P50 and P99 are of calls at the offered load; both 0 if the peer does not
	// carry it.
	P50, P99 time.Duration
	// Memory is resident after all that, in bytes.
	Memory int64
}

// Results is what a run measured.
type Results struct {
	Cases []Case
	// Offered is the load of a case in calls per second at which latency is
	// measured, the same for all peers.
	Offered map[string]float64
	// Samples are by case and peer, one for each round. A failed one is nil.
	Samples map[string]map[string][]*Sample
	// Failures says what could not be measured, and why.
	Failures []string
}

// Run measures the cases.
type Run struct {
	Setup    *peer.Setup
	Without  map[string]string
	Rounds   int
	Duration time.Duration
	// Say is told what is being measured.
	Say func(format string, arguments ...any)
}

// Measure runs every case's peers in turn, as often as there are rounds.
func (r *Run) Measure(ctx context.Context, cases []Case) (*Results, error) {
	results := &Results{Offered: make(map[string]float64), Samples: make(map[string]map[string][]*Sample)}
	for _, c := range cases {
		c.Peers = slices.DeleteFunc(slices.Clone(c.Peers), func(name string) bool { return r.Without[name] != "" })
		results.Cases = append(results.Cases, c)
		results.Samples[c.Key] = make(map[string][]*Sample)
	}
	for round := range r.Rounds {
		for _, c := range results.Cases {
			for _, name := range c.Peers {
				measured, err := r.one(ctx, c, name, results.Offered)
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				samples := results.Samples[c.Key]
				if err != nil {
					r.Say("FAILED round %d, %s, %s: %v", round+1, c.Title, name, err)
					results.Failures = append(results.Failures, fmt.Sprintf("%s, %s, round %d: %s", c.Title, peer.Title(name), round+1, firstLine(err)))
					samples[name] = append(samples[name], nil)
					continue
				}
				samples[name] = append(samples[name], &measured)
				r.Say("round %d  %-28s %-14s %7.1f µs CPU  %8.0f calls/s  p50 %v  p99 %v  %.1f MB", round+1, c.Key, name,
					float64(measured.CPU)/1000, measured.Rate, measured.P50, measured.P99, float64(measured.Memory)/1e6)
			}
		}
	}
	return results, nil
}

func (r *Run) one(ctx context.Context, c Case, name string, offered map[string]float64) (Sample, error) {
	server, err := r.Setup.Start(ctx, name, peer.Options{GC: c.GC, TLS: c.TLS})
	if err != nil {
		return Sample{}, err
	}
	defer server.Stop()
	load, err := r.load(ctx, c, server)
	if err != nil {
		return Sample{}, err
	}
	rate, err := load.WarmUp(ctx, max(r.Duration/4, 200*time.Millisecond))
	if err != nil {
		return Sample{}, err
	}
	before, err := server.CPU()
	if err != nil {
		return Sample{}, err
	}
	calls, rate, err := load.Closed(ctx, int(rate*r.Duration.Seconds()))
	if err != nil {
		return Sample{}, err
	}
	after, err := server.CPU()
	if err != nil {
		return Sample{}, err
	}
	measured := Sample{CPU: (after - before) / time.Duration(calls), Rate: rate}
	if _, ok := offered[c.Key]; !ok {
		// The first peer of the first round sets the load for all: a part of
		// what it carries that is still well below what the slower Go peers do.
		part := 0.2
		if c.Connect {
			part = 0.4
		}
		offered[c.Key] = roundRate(rate * part)
	}
	if offer := offered[c.Key]; rate > offer*5/4 {
		times, err := load.Open(ctx, offer, r.Duration, r.Setup.Temp)
		if err != nil {
			return Sample{}, err
		}
		measured.P50, measured.P99 = stats.Percentile(times, 0.5), stats.Percentile(times, 0.99)
	}
	measured.Memory, err = server.Memory()
	return measured, err
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// roundRate keeps two digits, since the load is no measurement.
func roundRate(rate float64) float64 {
	unit := 1.0
	for rate/unit >= 100 {
		unit *= 10
	}
	return float64(int(rate/unit)) * unit
}

// load verifies the server's answer and returns the load to put on it.
func (r *Run) load(ctx context.Context, c Case, server *peer.Running) (h2load.Load, error) {
	ids := sample.IDs(c.IDs)
	load := h2load.Load{
		URL:         server.URL("/MyService/User"),
		Body:        filepath.Join(r.Setup.Temp, c.Key+".body"),
		HTTP1:       c.HTTP1,
		Connections: c.Connections,
		Streams:     c.Streams,
	}
	switch {
	case !c.Connect:
		load.Headers = []string{"content-type: application/grpc", "te: trailers"}
	case c.JSON:
		load.Headers = []string{"content-type: application/json", "connect-protocol-version: 1"}
	default:
		load.Headers = []string{"content-type: application/proto", "connect-protocol-version: 1"}
	}
	if err := verify.WriteBody(load.Body, ids, !c.Connect, c.JSON); err != nil {
		return load, err
	}
	target := verify.Target{Addr: server.Addr, TLS: c.TLS, IDs: ids}
	var err error
	switch {
	case server.Name == peer.Nginx:
		load.ReplyBytes, err = verify.Plain(ctx, target, "application/grpc", nil, func(answer []byte) error {
			if !bytes.Equal(answer, []byte(peer.NginxReply)) {
				return fmt.Errorf("nginx answered %q", answer)
			}
			return nil
		})
	case c.Connect:
		load.ReplyBytes, err = verify.Connect(ctx, target, c.JSON)
	default:
		load.ReplyBytes, err = verify.GRPC(ctx, target)
	}
	return load, err
}
