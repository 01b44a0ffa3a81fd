package measure

import (
	"context"
	"fmt"
	"os"
	"time"

	"example.com/roster/bench/internal/peer"
)

// Keys of the cases of the bridge that its marks name.
const (
	ProxyTwo    = "proxy-grpc-2-8x16"
	ProxyOne    = "proxy-grpc-2-1x1"
	ProxyStream = "proxy-stream"
	ProxyLarge  = "proxy-1mb"
	ProxyJSON   = "proxy-json-h2c"
	ProxyJSON1  = "proxy-json-h1"
)

// turns is how often the proxies of a case take turns in a round, all of which are up.
const turns = 4

// ProxyTable is every case of make bench-bridge.
func ProxyTable() []Case {
	columns := func(what string, digits int) []Column {
		return []Column{{"CPU µs/" + what, CPU, 1e6, digits, true}, {what + "s/s", Rate, 1, 0, false}, {"memory MB", Memory, 1e-6, 1, false}}
	}
	latency := []Column{
		{"CPU µs/call", CPU, 1e6, 1, true}, {"p50 µs", P50, 1e6, 0, false},
		{"added p50 µs", Added, 1e6, 0, true}, {"p99 µs", P99, 1e6, 0, false},
	}
	proxies := []string{peer.Envoy, peer.Bridge, peer.BridgeAll, peer.NginxProxy, peer.Direct}
	json := []string{peer.EnvoyJSON, peer.Bridge, peer.BridgeAll}
	cases := []Case{
		{Key: ProxyTwo, Title: "A bridged gRPC call, 2 ids, 8 connections × 16 streams", Peers: proxies, Columns: columns("call", 1), load: load{ids: 2, connections: 8, streams: 16}},
		{Key: ProxyOne, Title: "A bridged gRPC call, 2 ids, 1 × 1", Peers: proxies, Columns: latency, load: load{ids: 2, connections: 1, streams: 1}},
		{Key: ProxyStream, Title: "A bridged server stream of small messages", Peers: proxies, Columns: columns("message", 2)},
		{Key: ProxyLarge, Title: "A bridged gRPC call, 1 MB each way, 4 connections", Peers: proxies, Columns: columns("call", 0), load: load{payload: 1e6, connections: 4, streams: 1}},
		{Key: ProxyJSON, Title: "JSON in, gRPC out, h2c, 2 ids, 8 × 16", Peers: json, Columns: columns("call", 1), load: load{ids: 2, connections: 8, streams: 16, codec: connectJSON}},
		{Key: ProxyJSON1, Title: "JSON in, gRPC out, HTTP/1.1, 2 ids, 8 connections", Peers: json, Columns: columns("call", 1), load: load{ids: 2, connections: 8, streams: 1, codec: connectJSON, http1: true}},
	}
	for i := range cases {
		c := &cases[i]
		c.Intro, c.What, c.Measure = "× is against Envoy.", "proxy", proxied
		switch c.Key {
		case ProxyOne:
			c.Intro = "One call after the other. Added p50 is that beyond a call without a proxy. " + c.Intro
		case ProxyStream:
			c.Intro = fmt.Sprintf("%d connections with a stream each, read by grpc-go's client as fast as it can. ", streamConnections) + c.Intro
		}
	}
	return cases
}

// work makes calls of one proxy, or reads messages, for about a time. It returns how many, and how long
// each call took if that is measured.
type work func(ctx context.Context, d time.Duration) (done int, times []time.Duration, err error)

// proxied measures the proxies of a case in front of one server. They are all up, and take turns.
func proxied(ctx context.Context, r *Run, c Case) map[string]Sample {
	upstream, err := r.Setup.Start(ctx, peer.Upstream, peer.Options{})
	if err != nil {
		r.fail(c, peer.Upstream, err)
		return nil
	}
	defer upstream.Stop()
	type proxy struct {
		*peer.Server
		work  work
		total Sample // sums over the turns, of calls and of seconds
		took  time.Duration
		times []time.Duration
		err   error
	}
	proxies := make(map[string]*proxy)
	for _, name := range c.Peers {
		p := &proxy{Server: upstream}
		if name != peer.Direct {
			if p.Server, p.err = r.Setup.Start(ctx, name, peer.Options{Upstream: upstream.Addr}); p.err == nil {
				defer p.Stop()
			}
		}
		if p.err == nil {
			var done func()
			if p.work, done, p.err = c.proxyWork(ctx, r, p.Addr); p.err == nil {
				defer done()
			}
		}
		proxies[name] = p
	}
	for range turns {
		for _, name := range c.Peers {
			p := proxies[name]
			if p.err != nil {
				continue
			}
			began := time.Now()
			var cpu float64
			cpu, p.err = usage(p.Server, func() error {
				done, times, err := p.work(ctx, r.Duration/turns)
				p.total[Calls] += float64(done)
				p.times = append(p.times, times...)
				return err
			})
			p.total[CPU] += cpu
			p.took += time.Since(began)
		}
	}
	samples := make(map[string]Sample)
	for _, name := range c.Peers {
		p := proxies[name]
		var memory int64
		if p.err == nil {
			memory, p.err = p.Memory()
		}
		if p.err != nil {
			if ctx.Err() == nil {
				r.fail(c, name, p.err)
			}
			continue
		}
		sample := Sample{CPU: p.total[CPU] / p.total[Calls], Rate: p.total[Calls] / p.took.Seconds(), Memory: float64(memory)}
		sample[P50], sample[P99] = Percentile(p.times, 0.5).Seconds(), Percentile(p.times, 0.99).Seconds()
		if direct := proxies[peer.Direct]; direct != nil && name != peer.Direct && direct.err == nil {
			sample[Added] = sample[P50] - Percentile(direct.times, 0.5).Seconds()
		}
		if name == peer.Direct {
			sample[CPU], sample[Memory] = 0, 0 // they are those of the server and not of a proxy
		}
		samples[name] = sample
	}
	return samples
}

// proxyWork connects to a proxy, waits until it has learnt what is behind it, and warms it up.
func (c Case) proxyWork(ctx context.Context, r *Run, addr string) (work, func(), error) {
	if c.Key == ProxyStream {
		clients, hangUp, err := tickers(addr)
		if err != nil {
			return nil, nil, err
		}
		var messages int64
		err = eventually(ctx, func() (err error) { messages, err = pace(ctx, clients, r.Duration/turns); return err })
		if err != nil {
			hangUp()
			return nil, nil, err
		}
		return func(ctx context.Context, _ time.Duration) (int, []time.Duration, error) {
			return int(messages) * streamConnections, nil, readAll(ctx, clients, messages)
		}, hangUp, nil
	}
	dir, err := os.MkdirTemp(r.Setup.Temp, "load-")
	if err != nil {
		return nil, nil, err
	}
	var l load
	err = eventually(ctx, func() (err error) { l, err = c.load.prepare(ctx, dir, addr, false); return err })
	if err != nil {
		return nil, nil, err
	}
	rate, err := l.warmUp(ctx, max(r.Duration/4, 200*time.Millisecond))
	return func(ctx context.Context, d time.Duration) (int, []time.Duration, error) {
		calls := int(rate * d.Seconds())
		if c.Key == ProxyOne {
			return l.timed(ctx, calls)
		}
		made, _, err := l.closed(ctx, calls)
		return made, nil, err
	}, func() {}, err
}

// eventually tries for up to ten seconds: a proxy may accept connections before it knows its server.
func eventually(ctx context.Context, try func() error) error {
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil || ctx.Err() != nil || time.Since(began) > 10*time.Second {
			return err
		}
	}
}
