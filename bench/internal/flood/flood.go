// Package flood measures what a caller who calls as fast as it goes does to
// another, who calls now and then.
//
// It floods 127.0.0.1 alone, a server that it started, for as long as it is
// told.
package flood

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"

	"example.com/roster/bench/gen/apipb"
	"example.com/roster/bench/internal/attack"
	"example.com/roster/bench/internal/peer"
	"example.com/roster/bench/internal/rawh2"
	"example.com/roster/bench/internal/sample"
	"example.com/roster/bench/internal/stats"
)

const (
	// Connections is how many the flood has, and Streams how many calls each
	// makes at a time.
	Connections = 16
	Streams     = 100
	// RateLimit is the server's, in calls a second, and RateBurst how many at once,
	// where it has one. The other caller stays far below.
	RateLimit = "1000"
	RateBurst = "100"
	path      = "/MyService/User"
	// warm is how long the other caller calls before it counts.
	warm = 500 * time.Millisecond
)

// Count is what became of the calls of a flood.
type Count struct{ Answered, Refused, Broken int64 }

// Run floods a server until ctx is done.
func Run(ctx context.Context, addr string) Count {
	message, err := proto.Marshal(&apipb.UserReq{UserIDs: sample.IDs(2)})
	if err != nil {
		panic(err) // a message of numbers can be encoded
	}
	body := append([]byte{0, 0, 0, 0, byte(len(message))}, message...)
	var answered, refused, broken atomic.Int64
	var all sync.WaitGroup
	for range Connections {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := once(ctx, addr, body, &answered, &refused); err != nil && ctx.Err() == nil {
					broken.Add(1)
					// The load is to be calls, not connections.
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	all.Wait()
	return Count{answered.Load(), refused.Load(), broken.Load()}
}

// once floods by one connection until that ends: one goroutine reads, the other
// makes a call for each that has ended.
func once(ctx context.Context, addr string, body []byte, answered, refused *atomic.Int64) error {
	c, err := rawh2.Dial(ctx, addr, net.IPv4(127, 0, 0, 9))
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := c.Hello(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}); err != nil {
		return err
	}
	if err := c.WriteWindowUpdate(0, 1<<30); err != nil {
		return err
	}
	room := make(chan bool, Streams)
	for range Streams {
		room <- true
	}
	ended := make(chan error, 1)
	go func() {
		defer close(room)
		spoke := make(map[uint32]bool) // streams that have had a message
		for {
			frame, err := c.ReadFrame()
			if err != nil {
				ended <- err
				return
			}
			id := frame.Header().StreamID
			if id == 0 {
				continue
			}
			if frame.Header().Type == http2.FrameData {
				spoke[id] = true
			}
			end := frame.Header().Type == http2.FrameRSTStream || frame.Header().Flags.Has(http2.FlagHeadersEndStream) &&
				(frame.Header().Type == http2.FrameHeaders || frame.Header().Type == http2.FrameData)
			if !end {
				continue
			}
			if spoke[id] {
				answered.Add(1)
			} else {
				refused.Add(1)
			}
			delete(spoke, id)
			room <- true
		}
	}()
	for range room {
		for more := true; more; {
			id, err := c.Open(path, false)
			if err == nil {
				err = c.WriteData(id, true, body)
			}
			if err != nil {
				return err
			}
			select {
			case _, more = <-room:
			default:
				more = false
			}
		}
		if err := c.Flush(); err != nil {
			return err
		}
	}
	return <-ended
}

// A Sample is one round on one server: so long quiet, and then as long with the
// flood. Times are in nanoseconds, of the other caller's calls.
type Sample struct {
	QuietP50, QuietP99, FloodP50, FloodP99 time.Duration
	Calls, Failed                          int
	FirstError                             string
	Count                                  Count
}

// Times is how often p99 was as long under the flood.
func (s Sample) Times() float64 {
	if s.QuietP99 == 0 {
		return 0
	}
	return float64(s.FloodP99) / float64(s.QuietP99)
}

// Measure makes one round on a new server. StartCaller starts the other caller,
// startFlood the flood, in processes of their own.
func Measure(ctx context.Context, setup *peer.Setup, flags []string, d time.Duration,
	startCaller func(ctx context.Context, addr string, d time.Duration) (func() ([]attack.Call, error), error),
	startFlood func(ctx context.Context, addr string, d time.Duration) (func() (Count, error), error)) (Sample, error) {
	var result Sample
	server, err := setup.Start(ctx, peer.Roster, peer.Options{GC: peer.Default, Flags: flags})
	if err != nil {
		return result, err
	}
	defer server.Stop()
	began := time.Now()
	calls, err := startCaller(ctx, server.Addr, warm+2*d)
	if err != nil {
		return result, err
	}
	select {
	case <-ctx.Done():
		return result, ctx.Err()
	case <-time.After(warm + d):
	}
	flooded := time.Now()
	count, err := startFlood(ctx, server.Addr, d)
	if err != nil {
		return result, err
	}
	seen, err := calls()
	if err != nil {
		return result, err
	}
	if result.Count, err = count(); err != nil {
		return result, err
	}
	var quiet, flood []time.Duration
	for _, call := range seen {
		switch {
		case call.At.Before(began.Add(warm)):
			continue
		case call.At.Before(flooded):
			quiet = append(quiet, call.Took)
		default:
			flood = append(flood, call.Took)
		}
		if result.Calls++; call.Error != "" {
			if result.Failed++; result.FirstError == "" {
				result.FirstError = call.Error
			}
		}
	}
	result.QuietP50, result.QuietP99 = stats.Percentile(quiet, 0.5), stats.Percentile(quiet, 0.99)
	result.FloodP50, result.FloodP99 = stats.Percentile(flood, 0.5), stats.Percentile(flood, 0.99)
	return result, nil
}
